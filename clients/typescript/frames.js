// Frames of the action protocol, little-endian: u32 payload length, u16 call, u16 flags, u64 id, one JSON object.

import { AgtError, Lost } from './errors.js';

const HEAD = 16;
const PAYLOAD_MAX = 65_536;
const REPLY = 1;
const EVENT = 2;

/** One frame to send. */
export function frame(call, id, body) {
  const payload = Buffer.from(JSON.stringify(body, shown));
  if (payload.length > PAYLOAD_MAX) {
    throw new AgtError(
      `the action is ${payload.length} bytes of JSON; at most ${PAYLOAD_MAX}: Node sends no descriptor, in which more would go`,
    );
  }
  const head = Buffer.alloc(HEAD);
  head.writeUInt32LE(payload.length, 0);
  head.writeUInt16LE(call, 4);
  head.writeBigUInt64LE(BigInt(id), 8);
  return Buffer.concat([head, payload]);
}

/** What JSON would drop without a word, in words: a rule cannot judge what it does not see. */
function shown(_, value) {
  if (typeof value === 'bigint' || typeof value === 'function' || typeof value === 'symbol') return String(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (value instanceof Map) return Object.fromEntries(value);
  if (value instanceof Set) return [...value];
  if (value instanceof RegExp || value instanceof Error) return String(value);
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  return value;
}

/** Takes replies and events off what came in; throws when it is no such protocol. */
export class Replies {
  #came = Buffer.alloc(0);

  /** Those that are whole with these bytes, as [id, body]; events have no id. */
  *take(bytes) {
    this.#came = this.#came.length ? Buffer.concat([this.#came, bytes]) : bytes;
    while (this.#came.length >= HEAD) {
      const length = this.#came.readUInt32LE(0);
      if (length > PAYLOAD_MAX) throw new Lost(`a frame of ${length} bytes: this is no supervisor`);
      if (this.#came.length < HEAD + length) return;
      const flags = this.#came.readUInt16LE(6);
      const id = Number(this.#came.readBigUInt64LE(8));
      const body = JSON.parse(this.#came.toString('utf8', HEAD, HEAD + length));
      this.#came = this.#came.subarray(HEAD + length);
      if (body === null || typeof body !== 'object' || Array.isArray(body)) {
        throw new Lost('an answer that is no JSON object: this is no supervisor');
      }
      if (flags & REPLY) yield [id, body];
      else if (flags & EVENT) yield [null, body];
    }
  }
}
