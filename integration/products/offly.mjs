// A receiver of Offly's webhooks: X-Offly-Signature must be the HMAC-SHA256, in
// hexadecimal, of what the parsed body is when it is written as JSON again. The
// bytes that came are gone by then: a framework has parsed them.
import { createHmac } from "node:crypto";
import { same, secret, serve } from "./serve.mjs";

const key = secret();

serve({
  verify(headers, bytes) {
    const parsed = JSON.parse(bytes.toString("utf8"));
    const mac = createHmac("sha256", key).update(JSON.stringify(parsed), "utf8");
    return same(headers["x-offly-signature"], mac.digest("hex"));
  },
  type: (_, bytes) => JSON.parse(bytes.toString("utf8")).type,
});
