/** The kinds of action. */
export type Kind =
  | 'tool.call' | 'model.call' | 'fs.read' | 'fs.write' | 'fs.delete' | 'exec' | 'net.connect' | 'net.listen'
  | 'agent.spawn' | 'agent.message' | 'memory.write' | 'ring.elevate';

export type Verdict = 'allow' | 'audit' | 'escalate' | 'deny';

/** What an action says of itself; who acts, and in which ring, is the supervisor's to say. */
export interface Fields {
  tool?: string;
  args?: Record<string, unknown>;
  path?: string;
  host?: string;
  port?: number;
  program?: string;
  argv?: string[];
  bytes?: number;
  [given: string]: unknown;
}

/** Where a decision is in the log. */
export interface Decision {
  log: string;
  seq: number;
}

/** An answer to `ask`. */
export interface Answer {
  verdict: Verdict;
  rule: string | null;
  reason: string | null;
  errno: string | null;
  decision: null;
  retry_after_ms: number | null;
}

export interface Policies {
  policies: { name: string; file: string | null }[];
  hash: string;
}

/** Something between the agent and its supervisor. */
export class AgtError extends Error {}

/** Neither AGT_SOCKET nor AGT_FD leads to a supervisor. */
export class NotInARing extends AgtError {}

/** The supervisor is gone; nothing is allowed any more. */
export class Lost extends AgtError {}

/** The action must not be done. */
export class Denied extends AgtError {
  readonly verdict: Verdict;
  readonly rule: string | null;
  readonly reason: string;
  readonly errno: string | null;
  readonly decision: Decision | null;
  /** When a limit would let it go ahead. */
  readonly retryAfterMs: number | null;
}

/** The action waits for a person; it was not allowed. */
export class Held extends Denied {}

/** An allowed action: tell how it went with `done`. */
export class Action {
  private constructor();
  readonly decision: Decision;
  readonly verdict: 'allow' | 'audit';
  readonly rule: string | null;
  /** Records the outcome, once; true when it was recorded now. */
  done(ok?: boolean, facts?: { error?: string; [fact: string]: unknown }): Promise<boolean>;
  /** The end of `await using`, which does not say how it went: without `done` it was not done. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Governed<A extends any[]> {
  /** The tool's name; the function's own when left out. */
  tool?: string;
  /** `tool.call` when left out. */
  kind?: Kind;
  /** The names of the arguments, or what makes `args` of a call. Not needed with one object as the argument. */
  args?: readonly string[] | ((...given: A) => Record<string, unknown>);
}

/** A connection to the supervisor. Calls may be under way at once. */
export class Agent {
  private constructor();
  readonly name: string;
  readonly ring: string;
  readonly log: string;
  /** The connection that this ring has: AGT_FD, inherited, or AGT_SOCKET. Rejects with NotInARing. */
  static connect(): Promise<Agent>;
  /** The agent is up. */
  ready(): Promise<void>;
  /** The agent is alive. */
  heartbeat(): Promise<void>;
  /** Names and files of the policies in force, and the hash of them all. */
  policy(): Promise<Policies>;
  /** What would be decided; nothing is recorded as done and nothing may be done upon it. */
  ask(kind: Kind, fields?: Fields): Promise<Answer>;
  /** Decides and records one action; resolves when it may be done, rejects with Denied or Held. */
  act(kind: Kind, fields?: Fields): Promise<Action>;
  /** Calls `fn` when the action is allowed, and tells how it went. */
  withAction<T>(kind: Kind, fields: Fields, fn: (action: Action) => T | Promise<T>): Promise<T>;
  /** A function each call of which is an action. */
  governed<A extends any[], R>(fn: (...given: A) => R, options?: Governed<A>): (...given: A) => Promise<Awaited<R>>;
  /** Ends the connection. */
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
}
