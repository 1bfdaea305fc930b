// uwebsockets.js PORT - broadcasts with uWebSockets. What arrives is published from setImmediate:
// inside the message handler the publisher's socket holds the one cork buffer, and a burst would
// leave as one send per message and receiver.
'use strict';
const uWS = require('uwebsockets');

const waiting = [];
const app = uWS.App();

function flush() {
  for (const [message, isBinary] of waiting) app.publish('load', message, isBinary, false);
  waiting.length = 0;
}

app.ws('/*', {
  compression: uWS.DISABLED,
  maxPayloadLength: 1 << 20,
  maxBackpressure: 1 << 30,
  idleTimeout: 0,
  sendPingsAutomatically: false,
  upgrade(response, request, context) {
    response.upgrade(
      { publishes: request.getUrl() === '/pub' },
      request.getHeader('sec-websocket-key'),
      request.getHeader('sec-websocket-protocol'),
      request.getHeader('sec-websocket-extensions'),
      context,
    );
  },
  open(client) {
    if (client.getUserData().publishes) return;
    client.subscribe('load');
    client.send('ready', false, false);
  },
  message(client, message, isBinary) {
    if (waiting.length === 0) setImmediate(flush);
    waiting.push([message.slice(0), isBinary]); // the buffer ends with the handler
  },
});

app.listen('127.0.0.1', Number(process.argv[2]), (socket) => {
  if (!socket) process.exit(1);
});
