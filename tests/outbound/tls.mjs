// TLS in front of a plain server, with a certificate of its own: node tls.mjs PORT CERTIFICATE KEY TO_PORT

import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { createServer } from "node:tls";

const [port, cert, key, to] = process.argv.slice(2);
const options = { cert: readFileSync(cert), key: readFileSync(key), ALPNProtocols: ["http/1.1"] };
createServer(options, (client) => {
  const server = connect(Number(to), "127.0.0.1");
  for (const [one, other] of [[client, server], [server, client]]) {
    one.setNoDelay(true);
    one.pipe(other);
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}).on("tlsClientError", () => {}).listen(Number(port), "127.0.0.1");
