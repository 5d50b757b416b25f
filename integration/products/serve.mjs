// What the products' receivers have in common: a server that answers 401 to
// requests that do not verify, and prints one line of JSON for every request.
//
// It takes its certificate from the files that TLS_CERT and TLS_KEY name, and
// speaks plain HTTP without them. A number on standard input is the status
// that verified requests are answered with from then on; its end is the end of
// the receiver.
import { timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer as createPlain } from "node:http";
import { createServer as createSecure } from "node:https";
import { createInterface } from "node:readline";

const limit = 1 << 20; // bytes of a body

let answer = 200;

// secret returns the environment's, without which a receiver cannot verify.
export function secret() {
  const text = process.env.SECRET;
  if (!text) throw new Error("SECRET is not set");
  return text;
}

// same compares a header's value with what it should be, in a time that tells
// nothing of where they differ.
export function same(sent, wanted) {
  const [a, b] = [Buffer.from(sent ?? ""), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// serve receives. verify gets the headers by their names in lower case and the
// body's bytes, and type gets the same; what either throws counts as a request
// that does not verify.
export function serve({ verify, type }) {
  const { TLS_CERT: cert, TLS_KEY: key } = process.env;
  const server = cert
    ? createSecure({ cert: readFileSync(cert), key: readFileSync(key) }, receive)
    : createPlain(receive);
  server.listen(0, "127.0.0.1", () => {
    print({ url: `${cert ? "https" : "http"}://127.0.0.1:${server.address().port}` });
  });
  createInterface({ input: process.stdin })
    .on("line", (line) => {
      answer = Number(line);
      print({ answer });
    })
    .on("close", () => process.exit(0));

  function receive(request, response) {
    const chunks = [];
    let size = 0;
    request.on("data", (chunk) => {
      size += chunk.length;
      if (size > limit) request.destroy();
      chunks.push(chunk);
    });
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      let [verified, event] = [false, ""];
      try {
        verified = verify(request.headers, body);
        if (verified) event = type(request.headers, body);
      } catch {
        verified = false;
      }
      const status = verified ? answer : 401;
      print({
        method: request.method,
        path: request.url,
        type: event,
        verified,
        status,
        headers: request.rawHeaders, // name, value, name, value …
        body: body.toString("base64"),
      });
      response.writeHead(status, { "Content-Type": "text/plain" });
      response.end(verified ? "received" : "invalid signature");
    });
  }
}

function print(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}
