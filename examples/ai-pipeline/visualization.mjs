// Visualization: a page with the answers as they are written, the supervision tree, message rates and restarts.
// Nothing but Node: messages come as HTTP requests from the sidecar, questions go to its door, the page listens to server-sent events.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

const door = process.env.KONTROL_SIDECAR_HTTP;
const data = process.env.DATA ?? "data";
const journal = join(data, "answers.jsonl");
mkdirSync(data, { recursive: true });

// What was shown before this process started is shown again: a chunk is written here before it is acknowledged.
const lines = existsSync(journal) ? readFileSync(journal, "utf8").split("\n").filter(Boolean) : [];
const seen = new Set(lines.map((line) => key(JSON.parse(line))));
const viewers = new Set();
let tree = null;
let pieces = 0;

function key({ question, attempt, sequence }) {
  return `${question}.${attempt}.${sequence}`;
}

// One server-sent event; answers carry their journal and their place in it as id, so that a viewer that comes back misses none. A journal
// is called as its first answer is: where another one was begun, places in the old one mean nothing.
function place(number) {
  return `${key(JSON.parse(lines[0]))}/${number}`;
}

function after(id) {
  const [name, number] = (id ?? "").split("/");
  return lines.length > 0 && place(number) === `${name}/${number}` ? Number(number) : 0;
}

function send(viewer, event, text, id) {
  viewer.write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${text}\n\n`);
}

function broadcast(event, text, id) {
  for (const viewer of viewers) send(viewer, event, text, id);
}

function chunkArrived(chunk) {
  if (seen.has(key(chunk))) return; // at-least-once: it may come twice
  const line = JSON.stringify({ ...chunk, at: Date.now() });
  appendFileSync(journal, line + "\n");
  seen.add(key(chunk));
  lines.push(line);
  broadcast("chunk", line, place(lines.length));
}

async function ask(question) {
  const id = randomUUID();
  const response = await fetch(`${door}/v1/topics/questions/events`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "ce-specversion": "1.0",
      "ce-id": id,
      "ce-source": "/",
      "ce-type": "dev.kontrol.example.question",
      "ce-subject": id,
    },
    body: JSON.stringify({ question }),
  });
  if (!response.ok) throw new Error(await response.text());
  broadcast("question", JSON.stringify({ id, question }));
  return { id };
}

async function countPieces() {
  try {
    const response = await fetch(`${door}/v1/call/vectors/count`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    if (response.ok) pieces = (await response.json()).pieces;
  } catch {
    // The door is busy or draining: the last figure stands.
  }
}

// The tree comes from Kontrol itself, a line of JSON for each change.
function watchTree() {
  const kontrol = process.env.KONTROL_BIN_DIR ? join(process.env.KONTROL_BIN_DIR, "kontrol") : "kontrol";
  const watch = spawn(kontrol, ["tree", "--watch", "-o", "json"], { stdio: ["ignore", "pipe", "ignore"] });
  let rest = "";
  watch.stdout.on("data", (bytes) => {
    const parts = (rest + bytes).split("\n");
    rest = parts.pop();
    for (const part of parts.filter(Boolean)) {
      tree = part;
      broadcast("tree", part);
    }
  });
  watch.on("error", () => {});
  process.on("exit", () => watch.kill());
}

async function body(request) {
  let text = "";
  for await (const bytes of request) text += bytes;
  return JSON.parse(text || "{}");
}

const page = readFileSync(new URL("page.html", import.meta.url));

const routes = {
  "GET /": (_request, response) => response.setHeader("content-type", "text/html; charset=utf-8").end(page),
  "GET /healthz": (_request, response) => response.writeHead(204).end(),
  "GET /stats": (_request, response) => response.end(JSON.stringify({ pieces, chunks: lines.length })),
  "GET /events": (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    for (let i = after(request.headers["last-event-id"]); i < lines.length; i++) send(response, "chunk", lines[i], place(i + 1));
    if (tree) send(response, "tree", tree);
    viewers.add(response);
    request.on("close", () => viewers.delete(response));
  },
  "POST /answers": async (request, response) => {
    chunkArrived(await body(request));
    response.writeHead(204).end();
  },
  "POST /ask": async (request, response) => {
    response.end(JSON.stringify(await ask((await body(request)).question)));
  },
};

const server = createServer(async (request, response) => {
  const route = routes[`${request.method} ${new URL(request.url, "http://page").pathname}`];
  if (!route) return response.writeHead(404).end();
  try {
    await route(request, response);
  } catch (error) {
    console.error(`${request.method} ${request.url}: ${error}`);
    response.writeHead(500).end(String(error));
  }
});

setInterval(async () => {
  await countPieces();
  broadcast("stats", JSON.stringify({ pieces, chunks: lines.length }));
}, 1000).unref();

// Viewers come back by themselves; what the sidecar has posted is answered.
process.on("SIGTERM", () => {
  for (const viewer of viewers) viewer.destroy();
  server.close(() => process.exit(0));
  setInterval(() => server.closeIdleConnections(), 10);
});

server.listen(Number(process.env.PORT), "127.0.0.1", () => {
  writeFileSync(join(data, "page.url"), `http://127.0.0.1:${process.env.PORT}/`);
  watchTree();
});
