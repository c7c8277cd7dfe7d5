// The Standard Webhooks library for Node, unmodified: which of the messages in a file it takes.
import { createPublicKey, verify } from "node:crypto";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , file, modules] = process.argv;
const require = createRequire(pathToFileURL(`${modules}/`));
const { Webhook } = await import(pathToFileURL(require.resolve("standardwebhooks")).href);

function isTaken({ secret, headers, body }) {
  try {
    new Webhook(secret).verify(Buffer.from(body, "base64").toString(), headers);
    return true;
  } catch {
    return false;
  }
}

// The library knows no v1a; what Node has itself is enough for it.
function isSigned({ keys, headers, body }) {
  const signed = Buffer.concat([
    Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`),
    Buffer.from(body, "base64"),
  ]);
  const signatures = headers["webhook-signature"].split(" ").filter((one) => one.startsWith("v1a,"));
  return keys.some((jwk) =>
    signatures.some((one) =>
      verify(null, signed, createPublicKey({ key: jwk, format: "jwk" }), Buffer.from(one.slice(4), "base64")),
    ),
  );
}

const cases = JSON.parse(readFileSync(file, "utf8"));
console.log(JSON.stringify(cases.map((one) => [isTaken(one), isSigned(one)])));
