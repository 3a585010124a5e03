// A Map of objects behind a TCP port, a line asked and a line answered: SET n value, GET n, CHECK, PING.
"use strict";
const net = require("node:net");

const table = new Map();

/** FNV-1a over a text: the hot loop that the JIT compiles. */
function hash(text, seed) {
  let h = seed;
  for (let i = 0; i < text.length; i++)
    h = Math.imul(h ^ text.charCodeAt(i), 16777619) >>> 0;
  return h;
}

function answer(line) {
  const [verb, n, value] = line.split(" ");
  switch (verb) {
    case "GET": {
      const entry = table.get(Number(n));
      return entry === undefined ? "missing" : `${entry.value}:${hash(entry.value, 2166136261).toString(16)}`;
    }
    case "SET":
      table.set(Number(n), { value, length: value.length });
      return "ok";
    case "CHECK": {
      let total = 2166136261;
      for (const key of [...table.keys()].sort((a, b) => a - b))
        total = hash(`${key}=${table.get(key).value};`, total);
      return `${table.size}:${total.toString(16)}`;
    }
    case "PING":
      return "pong";
    default:
      return "error unknown request";
  }
}

net.createServer(client => {
  let pending = "";
  client.setNoDelay(true);
  client.on("data", data => {
    const lines = (pending + data.toString("latin1")).split("\n");
    pending = lines.pop();
    if (lines.length > 0)
      client.write(lines.map(line => answer(line) + "\n").join(""), "latin1");
  });
  client.on("error", () => client.destroy());
}).listen(Number(process.argv[2]), process.argv[3]);
