// The client for Node against a real supervisor.

import assert from 'node:assert/strict';

const { Agent, Denied, Held } = await import(`${process.env.CLIENTS}/typescript/index.js`);
const agent = await Agent.connect();
await agent.ready();
await agent.heartbeat();
assert.equal(agent.name, process.env.AGT_AGENT);
if (process.env.AGT_FD) assert.equal(await Agent.connect(), agent);
assert.ok((await agent.policy()).policies.some(({ name }) => name === 'adapters'));
const ran = [];
const query = agent.governed(async ({ sql }) => ran.push(sql), { tool: 'query' });
await Promise.all([query({ sql: 'select 1' }), query({ sql: 'select 2' })]);
await assert.rejects(query({ sql: 'drop table users' }), (no) => {
  assert.ok(no instanceof Denied && no.decision.log === agent.log);
  return no.rule === 'no-drop' && no.reason === 'Dropping tables needs a person.';
});
assert.deepEqual(await agent.mask('block', 'USR1'), ['USR1']);
await assert.rejects(agent.mask('block', 'KILL'), { errno: 'EPERM' });
await agent.onSignal(console.log);
const ended = await agent.run(['echo', 'from a ring of its own']);
assert.deepEqual([ended.exit_code, ended.stdout], [0, 'from a ring of its own\n']);
await assert.rejects(agent.elevate('privileged', ['id']), Denied);
const action = await agent.act('tool.call', { tool: 'query', args: { sql: 'select 3' } });
assert.deepEqual([await action.done(), await action.done()], [true, false]);
assert.equal((await agent.ask('tool.call', { tool: 'query', args: { sql: 'drop' } })).verdict, 'deny');
await assert.rejects(agent.act('no.such'), { errno: 'EINVAL' });
await assert.rejects(agent.withAction('fs.read', { path: '/x' }, () => Promise.reject(new TypeError('x'))), TypeError);
await assert.rejects(agent.act('tool.call', { tool: 'held' }), (no) => no instanceof Held && no.rule === 'ask-somebody');
await agent.withAction('tool.call', { tool: 'seldom' }, () => {});
await assert.rejects(agent.act('tool.call', { tool: 'seldom' }), (no) => !(no instanceof Held) && no.retryAfterMs > 0);
assert.deepEqual(ran, ['select 1', 'select 2']);
console.log('fine: 6 allowed, 2 denied');
