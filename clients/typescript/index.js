// What an agent imports to ask agt-supervisor before it acts. No dependencies.
//
//     import { Agent } from 'agt-supervisor-client';
//
//     const agent = await Agent.connect();
//     await agent.ready();
//     await agent.withAction('tool.call', { tool: 'sql.run', args: { query } }, () => run(query));
//
// An action is decided and recorded before `act` resolves; Denied says by which rule it was not.

import { Socket, connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { isMainThread } from 'node:worker_threads';

import { AgtError, Denied, Held, Lost, NotInARing } from './errors.js';
import { Replies, frame } from './frames.js';

const CALL = {
  wait: 2, exec: 3, signal: 15, sigAction: 16, sigProcMask: 17, getPolicy: 18, checkPolicy: 19, hello: 64, ready: 65,
  heartbeat: 66, act: 67, done: 68, elevate: 70, approval: 71,
};
const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

export { AgtError, Denied, Held, Lost, NotInARing };

/** An allowed action: tell how it went with `done`. */
export class Action {
  #call;
  #told = false;

  constructor(call, reply) {
    this.#call = call;
    this.decision = reply.decision;
    this.verdict = reply.verdict;
    this.rule = reply.rule ?? null;
  }

  /** Records the outcome, once; true when it was recorded now. */
  async done(ok = true, facts = {}) {
    if (this.#told) return false;
    this.#told = true;
    const reply = await this.#call(CALL.done, { ...facts, decision: this.decision, ok });
    return !reply.errno;
  }

  /** The end of `await using`, which does not say how it went: without `done` it was not done. */
  async [asyncDispose]() {
    await this.done(false, { error: 'left without an outcome' });
  }
}

/** A connection to the supervisor. Calls may be under way at once. */
export class Agent {
  // AGT_FD is one connection: who connects again gets the same agent.
  static #inherited;

  #socket;
  #replies = new Replies();
  #waiting = new Map();
  #next = 1;
  #lost;
  #handler;

  /** The connection that this ring has: AGT_FD, inherited, or AGT_SOCKET. */
  static async connect() {
    if (process.env.AGT_FD) return (Agent.#inherited ??= Agent.#hello(inherited(process.env.AGT_FD)));
    const path = process.env.AGT_SOCKET;
    if (!path) throw new NotInARing('AGT_SOCKET is not set: this program was not started by agt-supervisor');
    return Agent.#hello(await connected(path));
  }

  static async #hello(socket) {
    const agent = new Agent(socket);
    const { agent: name, ring, log } = await agent.#call(CALL.hello, {});
    return Object.assign(agent, { name, ring, log });
  }

  /** @internal */
  constructor(socket) {
    this.#socket = socket;
    socket.on('data', (bytes) => this.#take(bytes));
    socket.on('error', (error) => this.#end(error.message));
    socket.on('close', () => this.#end('the supervisor closed the connection'));
    // A program that only waits for nothing ends.
    socket.unref();
  }

  /** The agent is up. */
  async ready() {
    await this.#call(CALL.ready, {});
  }

  /** The agent is alive. */
  async heartbeat() {
    await this.#call(CALL.heartbeat, {});
  }

  /** Names and files of the policies in force, and the hash of them all. */
  policy() {
    return this.#call(CALL.getPolicy, {});
  }

  /** What would be decided; nothing is recorded as done and nothing may be done upon it. */
  ask(kind, fields = {}) {
    return this.#call(CALL.checkPolicy, { ...fields, action: kind });
  }

  /** Decides and records one action; resolves when it may be done, rejects with Denied, or with Held when a person has
   * to say so: with `wait`, after so many seconds without an answer. */
  async act(kind, fields = {}, { wait = 0 } = {}) {
    const reply = await this.#asked(CALL.act, { ...fields, action: kind }, wait);
    return new Action((call, body) => this.#call(call, body), reply);
  }

  /** How a held action stands: `state` is waits, approved, denied (with `reason`) or gone. */
  async approval(id) {
    const reply = await this.#call(CALL.approval, { id });
    // Nothing that is not known lets anything wait for ever.
    return typeof reply.state === 'string' ? reply : { ...reply, state: 'gone' };
  }

  /** Calls `handler` with each governance signal: its `signal`, `source` and `reason`. */
  async onSignal(handler) {
    this.#handler = handler;
    await this.#call(CALL.sigAction, { events: true });
  }

  /** Keeps events of INT, TERM, USR1 or USR2 away (`block`), or lets them through (`unblock`, `set`).
   * What they do is done all the same. */
  async mask(how, ...signals) {
    return (await this.#fine(CALL.sigProcMask, { how, signals })).masked ?? [];
  }

  /** Runs one command in a ring of its own, this agent's or one of fewer rights, and resolves with how it ended:
   * `exit_code`, `stdout`, `stderr`. */
  run(argv, { ring, wait = 0, ttl = 300 } = {}) {
    return this.#work(CALL.exec, { argv, ttl_s: ttl, ...(ring === undefined ? {} : { ring }) }, wait);
  }

  /** The same in a ring of more rights, up to the one that agent.yaml names under `elevate`. */
  elevate(ring, argv, { wait = 0, ttl = 300 } = {}) {
    return this.#work(CALL.elevate, { argv, ttl_s: ttl, ring }, wait);
  }

  /** Stops this agent: STOP, INT, TERM or KILL. */
  async raiseSignal(signal, reason = '') {
    await this.#fine(CALL.signal, { signal, reason });
  }

  /** Calls `fn` when the action is allowed, and tells how it went. */
  async withAction(kind, fields, fn, options) {
    const action = await this.act(kind, fields, options);
    let result;
    try {
      result = await fn(action);
    } catch (error) {
      // What went wrong inside says more than that it could not be told.
      await action.done(false, { error: String(error?.name ?? error) }).catch(() => {});
      throw error;
    }
    await action.done(true);
    return result;
  }

  /** A function each call of which is an action. `args` names its arguments, or makes them from a call. */
  governed(fn, { tool = fn.name, kind = 'tool.call', args } = {}) {
    if (!tool) throw new TypeError('a function without a name needs `tool`');
    const agent = this;
    return async function governed(...given) {
      const fields = { tool, args: typeof args === 'function' ? args(...given) : named(tool, args, given) };
      return agent.withAction(kind, fields, () => fn.apply(this, given));
    };
  }

  /** Ends the connection. */
  close() {
    this.#end('closed');
  }

  [asyncDispose]() {
    this.close();
    return Promise.resolve();
  }

  async #asked(call, body, wait) {
    const until = Date.now() + wait * 1000;
    for (;;) {
      const reply = await this.#call(call, body);
      const goes = reply.verdict === 'allow' || reply.verdict === 'audit';
      if (goes && !reply.errno && reply.decision) return reply;
      if (reply.verdict !== 'escalate') throw new Denied(reply);
      if (!(await this.#answered(new Held(reply), until))) throw new Held(reply);
    }
  }

  /** Waits for a person; false when there is no time left. */
  async #answered({ approval }, until) {
    while (approval && Date.now() < until) {
      await pause(250);
      if ((await this.approval(approval)).state !== 'waits') return true;
    }
    return false;
  }

  async #work(call, body, wait) {
    const { worker } = await this.#asked(call, body, wait);
    for (;;) {
      const state = await this.#call(CALL.wait, { worker });
      if (state.state !== 'runs') return state;
      await pause(20);
    }
  }

  async #fine(call, body) {
    const reply = await this.#call(call, body);
    if (reply.errno) throw new Denied(reply);
    return reply;
  }

  #call(call, body) {
    return new Promise((resolve, reject) => {
      if (this.#lost) throw this.#lost;
      const id = this.#next;
      const bytes = frame(call, id, body);
      this.#next += 1;
      this.#waiting.set(id, { resolve, reject });
      this.#socket.ref();
      this.#socket.write(bytes);
    });
  }

  #take(bytes) {
    try {
      for (const [id, body] of this.#replies.take(bytes)) {
        // Later and apart, so that what it does wrong ends no call.
        if (id === null && this.#handler) queueMicrotask(() => this.#handler(body));
        this.#waiting.get(id)?.resolve(body);
        this.#waiting.delete(id);
      }
    } catch (error) {
      this.#end(error.message);
    }
    if (this.#waiting.size === 0) this.#socket.unref();
  }

  #end(why) {
    this.#lost ??= new Lost(why);
    for (const { reject } of this.#waiting.values()) reject(this.#lost);
    this.#waiting.clear();
    this.#socket.destroy();
  }
}

/** The arguments of one call by their names: a rule about `args.query` has to find it. */
function named(tool, names, given) {
  if (names) {
    if (given.length > names.length) throw new TypeError(`${tool}: ${given.length} arguments, and names for ${names.length}`);
    return Object.fromEntries(given.map((value, at) => [names[at], value]));
  }
  const [only] = given;
  if (given.length === 0) return {};
  // A Map or a class's own object may hold more than its fields show.
  const plain = only !== null && typeof only === 'object' && [Object.prototype, null].includes(Object.getPrototypeOf(only));
  if (given.length === 1 && plain) return only;
  throw new TypeError(`${tool}: arguments without names; give their names as \`args: [...]\``);
}

function inherited(number) {
  // Two threads that read from one connection would take each other's answers.
  if (!isMainThread) throw new AgtError('AGT_FD is one connection, and it is the main thread\'s');
  try {
    if (!/^\d+$/.test(number)) throw new Error('no descriptor');
    return new Socket({ fd: Number(number), readable: true, writable: true });
  } catch (error) {
    throw new NotInARing(`AGT_FD=${number}: ${error.message}`);
  }
}

function connected(path) {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const refused = (error) => reject(new NotInARing(`${path}: ${error.message}`));
    socket.once('error', refused);
    socket.once('connect', () => {
      socket.removeListener('error', refused);
      resolve(socket);
    });
  });
}
