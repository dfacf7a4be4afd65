// One turn over a WebSocket, as Codex takes it: node socket.mjs ADDRESS. Speaks the protocol by hand, since Node's own
// client came later than the Node that Debian has.

import { randomBytes } from "node:crypto";
import { connect } from "node:net";

const { hostname, port, pathname } = new URL(process.argv[2]);
const key = randomBytes(16).toString("base64");
const socket = connect(Number(port), hostname);
socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`);

/** A client's text frame, masked with zeros. */
function frame(text) {
  const payload = Buffer.from(text);
  const head = Buffer.alloc(8);
  head.writeUInt16BE(0x81fe, 0);
  head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}

let heard = "";
socket.on("data", (bytes) => {
  if (heard === "") {
    const request = { type: "response.create", model: "gpt-5.4", input: [{ role: "user", content: "hi ".repeat(50) }] };
    socket.write(frame(JSON.stringify(request)));
  }
  heard += bytes.toString("latin1");
  const last = /"type":"(response\.completed|response\.failed|error)"/.exec(heard);
  if (last) {
    console.log(last[1] === "response.completed" ? last[1] : heard);
    process.exit();
  }
});
setTimeout(() => { console.log(`nothing more came after: ${heard}`); process.exit(1); }, 15000);
