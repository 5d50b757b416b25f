// A receiver of Bindbee's webhooks: X-Bindbee-Webhook-Signature must be the
// HMAC-SHA256 of the body, keyed by the organisation's key, in URL-safe base64.
// KEYS are the key and, while one replaces the other, the one before it, as a
// JSON array.
import { createHmac } from "node:crypto";
import { same, serve } from "./serve.mjs";

const keys = JSON.parse(process.env.KEYS);

function sign(key, body) {
  const text = createHmac("sha256", key).update(body).digest("base64");
  return text.replaceAll("+", "-").replaceAll("/", "_");
}

serve({
  verify: (headers, body) =>
    keys.some((key) => same(headers["x-bindbee-webhook-signature"], sign(key, body))),
  type: (_, body) => JSON.parse(body).webhook.event,
});
