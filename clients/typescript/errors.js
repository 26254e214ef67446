// What can come instead of an answer that allows.

/** Something between the agent and its supervisor. */
export class AgtError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** Neither AGT_SOCKET nor AGT_FD leads to a supervisor. */
export class NotInARing extends AgtError {}

/** The supervisor is gone; nothing is allowed any more. */
export class Lost extends AgtError {}

/** The action must not be done. */
export class Denied extends AgtError {
  constructor(reply) {
    const rule = reply.rule ?? null;
    super((reply.reason || 'denied') + (rule === null ? '' : ` (rule ${rule})`));
    this.verdict = reply.verdict ?? 'deny';
    this.rule = rule;
    this.reason = reply.reason ?? '';
    this.errno = reply.errno ?? null;
    this.decision = reply.decision ?? null;
    this.retryAfterMs = reply.retry_after_ms ?? null;
  }
}

/** The action waits for a person; it was not allowed. */
export class Held extends Denied {
  constructor(reply) {
    super(reply);
    this.approval = reply.approval?.id ?? null;
  }
}
