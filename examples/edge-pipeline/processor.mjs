// Edge processor: joins six readings of a machine (an hour) into one summary, so that the cloud gets a sixth of the messages.
// A reading is answered, and so acknowledged, when the summary it went into is durable: what this process holds when it ends is
// delivered again.

import { createServer } from "node:http";

const door = process.env.KONTROL_SIDECAR_HTTP;
const WINDOW = 6;
const windows = new Map();
const done = new Set(); // at-least-once: a reading may come again when its hour is long published

async function publish(summary) {
  const response = await fetch(`${door}/v1/topics/summaries/events`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "ce-specversion": "1.0",
      "ce-id": `${summary.machine}.${summary.hour}`,
      "ce-source": "/",
      "ce-type": "dev.kontrol.example.summary",
      "ce-subject": summary.machine,
    },
    body: JSON.stringify(summary),
  });
  if (!response.ok) throw new Error(await response.text());
}

function open(key) {
  const window = { readings: new Map() };
  window.promise = new Promise((resolve, reject) => Object.assign(window, { resolve, reject }));
  windows.set(key, window);
  return window;
}

// Resolves when the hour of the reading is published.
async function reading({ machine, number, celsius }) {
  const hour = Math.floor(number / WINDOW);
  const key = `${machine}.${hour}`;
  if (done.has(key)) return;
  const window = windows.get(key) ?? open(key);
  window.readings.set(number, celsius);
  if (window.readings.size === WINDOW) {
    windows.delete(key);
    const values = [...window.readings.values()];
    const mean = values.reduce((sum, value) => sum + value, 0) / WINDOW;
    publish({ machine, hour, mean: Number(mean.toFixed(2)), max: Math.max(...values) })
      .then(() => done.add(key))
      .then(window.resolve, window.reject);
  }
  await window.promise;
}

createServer(async (request, response) => {
  if (request.method === "GET") return response.writeHead(204).end();
  let text = "";
  for await (const bytes of request) text += bytes;
  try {
    await reading(JSON.parse(text));
    response.writeHead(204).end();
  } catch (error) {
    console.error(String(error));
    response.writeHead(500).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
