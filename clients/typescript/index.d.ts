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
export class Held extends Denied {
  /** The name under which `agt-supervisor approve` answers it. */
  readonly approval: string | null;
}

/** A governance signal, as it comes to `onSignal`. */
export interface Signal {
  signal: string;
  number: number;
  source: string;
  reason: string;
}

/** How a held action stands. */
export interface Approval {
  state: 'waits' | 'approved' | 'denied' | 'gone';
  reason?: string | null;
}

export interface Waiting {
  /** Seconds in which a person may approve what is held; none when left out. */
  wait?: number;
}

export interface Command extends Waiting {
  /** The most seconds that the command may take; 300 when left out. */
  ttl?: number;
}

/** How a command ended. */
export interface Ended {
  state: string;
  exit_code: number;
  stdout: string;
  stderr: string;
  lasted_ms: number;
}

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
  act(kind: Kind, fields?: Fields, options?: Waiting): Promise<Action>;
  /** How a held action stands. */
  approval(id: string): Promise<Approval>;
  /** Calls `handler` with each governance signal. */
  onSignal(handler: (signal: Signal) => unknown): Promise<void>;
  /** Keeps events of these signals away, or lets them through; what they do is done all the same. */
  mask(how: 'block' | 'unblock' | 'set', ...signals: ('INT' | 'TERM' | 'USR1' | 'USR2')[]): Promise<string[]>;
  /** Runs one command in a ring of its own, this agent's or one of fewer rights. */
  run(argv: readonly string[], options?: Command & { ring?: string | number }): Promise<Ended>;
  /** The same in a ring of more rights, up to the one that agent.yaml names under `elevate`. */
  elevate(ring: string | number, argv: readonly string[], options?: Command): Promise<Ended>;
  /** Stops this agent. */
  raiseSignal(signal: 'STOP' | 'INT' | 'TERM' | 'KILL', reason?: string): Promise<void>;
  /** Calls `fn` when the action is allowed, and tells how it went. */
  withAction<T>(kind: Kind, fields: Fields, fn: (action: Action) => T | Promise<T>, options?: Waiting): Promise<T>;
  /** A function each call of which is an action. */
  governed<A extends any[], R>(fn: (...given: A) => R, options?: Governed<A>): (...given: A) => Promise<Awaited<R>>;
  /** Ends the connection. */
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
}
