// Edge processor: joins six readings of a machine (an hour) into one summary, so that the cloud gets a sixth of the messages.
// A reading is acknowledged when it is in its window; the window is rebuilt from redelivered readings after a restart.

import { createServer } from "node:http";

const door = process.env.KONTROL_SIDECAR_HTTP;
const WINDOW = 6;
const windows = new Map();

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

// The last reading of an hour is answered when the hour's summary is durable.
async function reading({ machine, number, celsius }) {
  const hour = Math.floor(number / WINDOW);
  const key = `${machine}.${hour}`;
  const window = windows.get(key) ?? new Map();
  windows.set(key, window.set(number, celsius));
  if (window.size < WINDOW) return;
  const values = [...window.values()];
  const mean = values.reduce((sum, value) => sum + value, 0) / WINDOW;
  await publish({ machine, hour, mean: Number(mean.toFixed(2)), max: Math.max(...values) });
  windows.delete(key);
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
