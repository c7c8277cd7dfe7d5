// OpenAI's own client for Node, unmodified: only base URL and key are ours.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , url, key, photograph, modules] = process.argv;
const require = createRequire(pathToFileURL(`${modules}/`));
const { default: OpenAI, toFile, APIError } = await import(
  pathToFileURL(require.resolve("openai")).href
);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const photo = () => toFile(readFileSync(photograph), "photograph.jpg", { type: "image/jpeg" });
const tool = { type: "image_generation", size: "512x512" };
const isPng = (text) => Buffer.from(text, "base64").subarray(1, 4).toString() === "PNG";

const steps = {
  async "a generation"() {
    const answer = await client.images.generate({ model: "sketch", prompt: "a lighthouse" });
    assert(isPng(answer.data[0].b64_json));
  },
  async "an edit"() {
    const image = [await photo(), await photo()];
    const answer = await client.images.edit({ model: "sketch", prompt: "at night", image });
    assert(isPng(answer.data[0].b64_json));
  },
  async "a stream"() {
    const stream = await client.images.generate({
      model: "sketch",
      prompt: "a lighthouse",
      stream: true,
      partial_images: 1,
    });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.deepEqual(kinds, ["image_generation.partial_image", "image_generation.completed"]);
  },
  async "a chat"() {
    const messages = [{ role: "user", content: "a lighthouse" }];
    const answer = await client.chat.completions.create({ model: "sketch", messages });
    const [image] = answer.choices[0].message.images;
    assert(isPng(image.image_url.url.split(",")[1]));
    const stream = await client.chat.completions.create({ model: "sketch", messages, stream: true });
    let images = 0;
    for await (const chunk of stream) images += chunk.choices[0]?.delta.images?.length ?? 0;
    assert.equal(images, 1);
  },
  async "a response"() {
    const ask = { model: "sketch", input: "a lighthouse", tools: [tool] };
    const answer = await client.responses.create(ask);
    assert(isPng(answer.output[0].result));
    const stream = await client.responses.create({ ...ask, stream: true });
    let last;
    for await (const event of stream) last = event;
    assert.equal(last.type, "response.completed");
  },
  async "a file"() {
    const file = await client.files.create({ file: await photo(), purpose: "vision" });
    assert.equal(file.status, "processed");
    assert.equal((await client.files.delete(file.id)).deleted, true);
  },
  async "an error"() {
    const asked = client.images.generate({ model: "no-such-model", prompt: "a lighthouse" });
    await assert.rejects(asked, (error) => error instanceof APIError && error.status === 404);
  },
  async "a sample with fetch"() {
    const result = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body: JSON.stringify({
        model: "sketch",
        messages: [{ role: "user", content: "Generate a beautiful sunset over mountains" }],
        modalities: ["image", "text"],
      }),
    }).then((answer) => answer.json());
    const found = result.choices[0].message.content.filter((part) => part.type === "image_url");
    assert.equal(found.length, 1);
    const hub = await fetch(`${url}/api/images/generations`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body: JSON.stringify({ prompt: "a lighthouse" }),
    }).then((answer) => answer.json());
    assert.equal((await fetch(hub.data[0].url)).status, 200);
  },
};

for (const [name, step] of Object.entries(steps)) {
  await step();
  console.log(`ok ${name}`);
}
