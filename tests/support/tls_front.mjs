// A front with TLS before a search server, as clusters have one: HTTP/2 or HTTP/1.1, gzip.
//
//   node tls_front.mjs TARGET CERT KEY [--http1] [--redirect URL]
//
// Prints its port, then a line of JSON for each request: what came with it.
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import zlib from "node:zlib";

const [target, cert, key, ...flags] = process.argv.slice(2);
const redirect = flags.includes("--redirect") ? flags[flags.indexOf("--redirect") + 1] : null;
const options = { cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: true };
const made = flags.includes("--http1") ? https.createServer : http2.createSecureServer;

function answer(request, response, parts) {
  const gzip = /gzip/.test(request.headers["accept-encoding"] ?? "");
  const told = {
    http: request.httpVersion,
    method: request.method,
    path: request.url,
    authorization: request.headers.authorization ?? null,
    gzip,
  };
  process.stdout.write(JSON.stringify(told) + "\n");
  if (redirect !== null) {
    response.writeHead(302, { location: redirect + request.url });
    response.end();
    return;
  }
  const kind = request.headers["content-type"];
  const body = Buffer.concat(parts);
  const headers = { ...(kind && { "content-type": kind }), "content-length": body.length };
  const call = http.request(target + request.url, { method: request.method, headers }, (reply) => {
    const got = [];
    reply.on("data", (part) => got.push(part));
    reply.on("end", () => {
      const whole = Buffer.concat(got);
      const zipped = gzip && whole.length > 0;
      response.writeHead(reply.statusCode, {
        ...(reply.headers["content-type"] && { "content-type": reply.headers["content-type"] }),
        ...(zipped && { "content-encoding": "gzip" }),
      });
      response.end(request.method === "HEAD" ? undefined : zipped ? zlib.gzipSync(whole) : whole);
    });
  });
  call.on("error", () => response.destroy());
  call.end(body);
}

const server = made(options, (request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => answer(request, response, parts));
});
server.on("tlsClientError", () => process.stdout.write('{"refused":true}\n'));
server.listen(0, "0.0.0.0", () => process.stdout.write(server.address().port + "\n"));
