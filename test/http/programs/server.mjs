import { open } from '../../../dist/connect.js';
import { HttpServer } from '../../../dist/http/http-server.js';

// A server with an HTTP API over the queue in a directory. Says its URL.
const { client, broker } = await open(`file:${process.argv[2]}`);
const onNotice = (_level, message) => {
  process.stderr.write(`${message}\n`);
};
const server = await HttpServer.start({ host: '127.0.0.1', port: 0, broker, client, showPayloads: true, onNotice });
process.stdout.write(`${server.url}\n`);
