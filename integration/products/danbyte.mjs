// A receiver of Danbyte's webhooks: X-Danbyte-Signature must be sha512= and the
// HMAC-SHA512 of the body as it came, whatever its content type, in
// hexadecimal. SECRET is optional here: a webhook without one is not signed.
import { createHmac } from "node:crypto";
import { same, serve } from "./serve.mjs";

const key = process.env.SECRET;

serve({
  verify(headers, body) {
    const sent = headers["x-danbyte-signature"];
    if (!key) return sent === undefined;
    return same(sent, "sha512=" + createHmac("sha512", key).update(body).digest("hex"));
  },
  type: (headers) => headers["x-danbyte-event"],
});
