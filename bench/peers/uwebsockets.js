// uwebsockets.js PORT [CERT KEY] - broadcasts with uWebSockets. What arrives is published from setImmediate:
// inside the message handler the publisher's socket holds the one cork buffer, and a burst would
// leave as one send per message and receiver.
'use strict';
const uWS = require('uwebsockets');

const waiting = [];
const [port, cert, key] = process.argv.slice(2); // the two: by TLS
const app = cert ? uWS.SSLApp({ cert_file_name: cert, key_file_name: key }) : uWS.App();

function flush() {
  for (const [topic, message, isBinary] of waiting) app.publish(topic, message, isBinary, false);
  waiting.length = 0;
}

// The topic of an event: eight letters from '@' to 'O' behind the mark, the lowest four bits first.
function topicOf(message) {
  const letters = new Uint8Array(message, 2, 8);
  return 't' + letters.reduceRight((topic, letter) => topic * 16 + (letter & 15), 0);
}

app.ws('/*', {
  compression: uWS.DISABLED,
  maxPayloadLength: 1 << 20,
  maxBackpressure: 1 << 30,
  idleTimeout: 0,
  sendPingsAutomatically: false,
  upgrade(response, request, context) {
    response.upgrade(
      { publishes: request.getUrl() === '/pub', topics: request.getQuery('t') },
      request.getHeader('sec-websocket-key'),
      request.getHeader('sec-websocket-protocol'),
      request.getHeader('sec-websocket-extensions'),
      context,
    );
  },
  open(client) {
    const { publishes, topics } = client.getUserData();
    if (publishes) return;
    if (topics === undefined) client.subscribe('load');
    else for (const topic of topics.split(',')) client.subscribe('t' + topic);
    client.send('ready', false, false);
  },
  message(client, message, isBinary) {
    if (waiting.length === 0) setImmediate(flush);
    const topic = client.getUserData().topics === undefined ? 'load' : topicOf(message);
    waiting.push([topic, message.slice(0), isBinary]); // the buffer ends with the handler
  },
});

app.listen('127.0.0.1', Number(port), (socket) => {
  if (!socket) process.exit(1);
});
