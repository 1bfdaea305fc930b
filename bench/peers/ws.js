// ws.js PORT - broadcasts with ws: framed once, written to every socket, all of one turn together.
'use strict';
const { WebSocketServer, Sender } = require('ws');

const sockets = new Set();
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2]),
  perMessageDeflate: false,
  backlog: 4096,
});

server.on('connection', (client, request) => {
  if (request.url === '/pub') {
    client.on('message', (data, isBinary) => {
      const parts = Sender.frame(data, {
        fin: true,
        rsv1: false,
        opcode: isBinary ? 2 : 1,
        mask: false,
        readOnly: true,
      });
      const frame = Buffer.concat(parts);
      for (const socket of sockets) socket.write(frame);
    });
    return;
  }
  const socket = client._socket;
  socket.setNoDelay(true);
  sockets.add(socket);
  client.on('close', () => sockets.delete(socket));
  client.on('error', () => sockets.delete(socket));
  client.send('ready');
});
