// Asks for what arrived, and puts it on the page as text: nothing of a message is ever markup.
"use strict";

const EVERY = 1000;
const state = document.getElementById("state");
const list = document.getElementById("messages");
const shape = document.getElementById("message");
let started = null;
let last = 0;

function fill(item, name, text) {
  item.querySelector(name).textContent = text ?? "";
}

function facts(message) {
  const signed = message.signatures;
  const rows = { answered: message.answered };
  if (signed !== null) {
    rows["v1 (HMAC)"] = signed.v1 === "differs"
      ? "differs from the secret for webhook_url; an endpoint has a secret of its own, which only its receiver knows"
      : signed.v1;
    rows["v1a (Ed25519)"] = signed.key === null ? signed.v1a : `${signed.v1a} ${signed.key}`;
  }
  return { ...rows, ...message.headers };
}

function shown(message) {
  const item = shape.content.firstElementChild.cloneNode(true);
  const when = new Date(message.at * 1000);
  item.classList.add(message.status);
  item.querySelector("time").dateTime = when.toISOString();
  fill(item, "time", when.toLocaleTimeString());
  fill(item, ".status", message.status);
  fill(item, ".type", message.type ?? message.reason);
  fill(item, ".about", message.about);
  fill(item, ".try", message.try > 1 ? `try ${message.try}` : "");
  fill(item, ".reason", message.reason);
  fill(item, ".body", message.body);
  for (const [name, value] of Object.entries(facts(message))) {
    const term = document.createElement("dt");
    const said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    item.querySelector("dl").append(term, said);
  }
  return item;
}

function begin(news) {
  const body = { model: "sketch", prompt: "a lighthouse at dusk", webhook_url: `${location.origin}/hook`, webhook_events: ["*"] };
  document.getElementById("command").textContent =
    `curl -sS ${news.service}/v1/jobs -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`;
  document.getElementById("failing").textContent = `${location.origin}/hook/500`;
  list.replaceChildren();
  started = news.started;
}

function say(text, away) {
  state.classList.toggle("away", away);
  if (state.textContent !== text) state.textContent = text;
}

async function look() {
  const answer = await fetch(`messages?after=${last}`, { signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error("no answer");
  const news = await answer.json();
  if (started !== news.started) {
    const again = started !== null;
    begin(news);
    last = 0;
    if (again) return;
  }
  for (const message of news.messages) {
    list.prepend(shown(message));
    last = message.number;
  }
  while (list.childElementCount > news.kept) list.lastElementChild.remove();
  const more = news.arrived > news.kept ? `; the last ${news.kept} are shown` : "";
  say(news.arrived === 0 ? "Nothing has arrived yet" : `${news.arrived} arrived${more}`, false);
}

async function watch() {
  try {
    await look();
  } catch {
    say("The catcher does not answer; what stands below may be old", true);
  }
  setTimeout(watch, EVERY);
}

watch();
