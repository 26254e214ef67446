// A supervisor that follows a script: enough of the door to try the client without a ring.

import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAMES = {
  2: 'wait', 3: 'exec', 15: 'signal', 16: 'sigaction', 17: 'sigprocmask', 18: 'getpolicy', 19: 'checkpolicy', 64: 'hello',
  65: 'ready', 66: 'heartbeat', 67: 'act', 68: 'done', 70: 'elevate', 71: 'approval',
};
const SAID = {
  held: { errno: 'EACCES', verdict: 'escalate', rule: 'held', reason: 'Somebody has to say so.' },
  paced: { errno: 'EAGAIN', verdict: 'deny', rule: 'pace', reason: 'Too often.', retry_after_ms: 250 },
  silent: {},
  odd: { errno: null, verdict: 'maybe' },
};
const NO_DROP = { errno: 'EACCES', verdict: 'deny', rule: 'no-drop', reason: 'Needs a person.', retry_after_ms: null };
const ALLOW = { errno: null, verdict: 'allow', rule: null };

function bytes(call, flags, id, body) {
  const payload = Buffer.from(JSON.stringify(body));
  const head = Buffer.alloc(16);
  head.writeUInt32LE(payload.length, 0);
  head.writeUInt16LE(call, 4);
  head.writeUInt16LE(flags, 6);
  head.writeBigUInt64LE(id, 8);
  return Buffer.concat([head, payload]);
}

export class Server {
  came = [];
  late = [];
  #folder = mkdtempSync(join(tmpdir(), 'agt-'));
  path = join(this.#folder, 'agent.sock');
  #sockets = new Set();
  #server = createServer((socket) => this.#speak(socket));

  listen() {
    return new Promise((resolve) => this.#server.listen(this.path, resolve));
  }

  close() {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    rmSync(this.#folder, { recursive: true });
  }

  told(name) {
    return this.came.filter(([call]) => call === name).map(([, body]) => body);
  }

  #speak(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    let buffer = Buffer.alloc(0);
    socket.on('data', (some) => {
      buffer = Buffer.concat([buffer, some]);
      while (buffer.length >= 16 && buffer.length >= 16 + buffer.readUInt32LE(0)) {
        const end = 16 + buffer.readUInt32LE(0);
        const [call, id] = [buffer.readUInt16LE(4), buffer.readBigUInt64LE(8)];
        const body = JSON.parse(buffer.subarray(16, end).toString());
        buffer = buffer.subarray(end);
        this.came.push([NAMES[call], body]);
        this.#answer(socket, call, id, body);
      }
    });
  }

  #answer(socket, call, id, body) {
    const put = (flags, of, answer) => {
      const whole = bytes(call, flags, of, answer);
      for (let at = 0; at < whole.length; at += 7) socket.write(whole.subarray(at, at + 7));
    };
    if (body.tool === 'gone') return socket.destroy();
    if (body.tool === 'list') return put(1, id, []);
    if (body.tool === 'huge') {
      const head = bytes(call, 1, id, {});
      head.writeUInt32LE(2 ** 30, 0);
      return socket.write(head);
    }
    if (body.tool === 'late') return this.late.push(() => put(1, id, this.#act(body)));
    // Events and other people's answers are passed over.
    put(2, 0n, { event: true });
    put(1, id + 1000n, NO_DROP);
    if ([3, 19, 67, 70].includes(call)) return put(1, id, this.#act(body));
    const replies = { hello: { agent: 'tried', ring: 'standard', log: 'run-1' }, getpolicy: { policies: [], hash: '00' },
      approval: { state: 'approved' }, sigprocmask: { masked: body.signals }, signal: { errno: 'EPERM' },
      wait: { errno: null, state: 'ended', exit_code: 7, stdout: 'x' } };
    return put(1, id, replies[NAMES[call]] ?? { errno: null });
  }

  #act(body) {
    if (body.action === 'no.such') return { errno: 'EINVAL', verdict: 'deny', reason: 'there is no action `no.such`' };
    const asked = body.tool === 'asked' && !this.told('approval').length;
    if (asked) return { ...SAID.held, approval: { id: 'ap-1' }, decision: { log: 'run-1', seq: this.came.length } };
    if (body.argv && !body.argv.includes('drop')) return { ...ALLOW, worker: 'w1', decision: { log: 'run-1', seq: 1 } };
    if (body.argv) return NO_DROP;
    const said = SAID[body.tool] ?? (/drop/i.test(JSON.stringify(body.args ?? {})) ? NO_DROP : ALLOW);
    return said.verdict ? { ...said, decision: { log: 'run-1', seq: this.came.length } } : {};
  }
}
