// A receiver of Byro's webhooks: X-Byro-Signature must be the HMAC-SHA256 of
// the body as it came, in hexadecimal.
import { createHmac } from "node:crypto";
import { same, secret, serve } from "./serve.mjs";

const key = secret();

serve({
  verify(headers, body) {
    const mac = createHmac("sha256", key).update(body);
    return same(headers["x-byro-signature"], mac.digest("hex"));
  },
  type: (_, body) => JSON.parse(body).event,
});
