// Verifies and signs webhooks as receivers and senders in JavaScript do: v1 with the reference library, and v1a, which
// it does not know, with Node's own ed25519.
//
//   stdin:  [{"verify": "whsec_... or whpk_...", headers, body}, {"sign": "whsec_... or whsk_...", id, timestamp, body}]
//   stdout: for each: "" or why it is refused; its signature                                (bodies are in base64)
"use strict";

const crypto = require("node:crypto");
const { readFileSync } = require("node:fs");
const { Webhook } = require("standardwebhooks");

// What precedes the bare key in DER, RFC 8410.
const PUBLIC = Buffer.from("302a300506032b6570032100", "hex");
const PRIVATE = Buffer.from("302e020100300506032b657004220420", "hex");

function bare(key) {
  return Buffer.from(key.slice("whpk_".length), "base64");
}

function verifyV1a(key, headers, body) {
  const signed = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
  const der = { key: Buffer.concat([PUBLIC, bare(key)]), format: "der", type: "spki" };
  const given = headers["webhook-signature"].split(" ").filter((each) => each.startsWith("v1a,"));
  if (!given.some((each) => crypto.verify(null, signed, der, Buffer.from(each.slice(4), "base64")))) {
    throw new Error("No matching signature found");
  }
}

function verify({ verify: key, headers, body }) {
  const bytes = Buffer.from(body, "base64");
  try {
    if (key.startsWith("whpk_")) verifyV1a(key, headers, bytes);
    else new Webhook(key).verify(bytes, headers, { jsonParse: false });
    return "";
  } catch (error) {
    return error.message;
  }
}

function sign({ sign: key, id, timestamp, body }) {
  const bytes = Buffer.from(body, "base64");
  if (key.startsWith("whsec_")) return new Webhook(key).sign(id, new Date(timestamp * 1000), bytes);
  const der = { key: Buffer.concat([PRIVATE, bare(key).subarray(0, 32)]), format: "der", type: "pkcs8" };
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), bytes]);
  return `v1a,${crypto.sign(null, signed, crypto.createPrivateKey(der)).toString("base64")}`;
}

const cases = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(cases.map((each) => (each.verify ? verify(each) : sign(each)))));
