import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';

import { Agent, AgtError, Denied, Held, Lost, NotInARing } from '../index.js';
import { Server } from './server.js';

const server = new Server();
let agent;

before(async () => {
  await server.listen();
  delete process.env.AGT_FD;
  process.env.AGT_SOCKET = server.path;
  agent = await Agent.connect();
});
beforeEach(() => server.came.splice(0));
after(() => {
  agent.close();
  server.close();
});

test('an allowed action is told once', async () => {
  assert.deepEqual([agent.name, agent.ring, agent.log], ['tried', 'standard', 'run-1']);
  await agent.ready();
  await agent.heartbeat();
  const action = await agent.act('tool.call', { tool: 'sql.run', args: { query: 'select 1' } });
  assert.equal(await action.done(true), true);
  assert.equal(await action.done(false), false);
  assert.deepEqual(server.told('act'), [{ tool: 'sql.run', args: { query: 'select 1' }, action: 'tool.call' }]);
  assert.deepEqual(server.told('done'), [{ decision: action.decision, ok: true }]);
});

test('a refusal says why', async () => {
  const no = await agent.act('tool.call', { tool: 'sql.run', args: { query: 'DROP' } }).catch((error) => error);
  assert.ok(no instanceof Denied && no instanceof AgtError && !(no instanceof Held));
  assert.deepEqual([no.name, no.message], ['Denied', 'Needs a person. (rule no-drop)']);
  assert.deepEqual([no.rule, no.reason, no.retryAfterMs, no.decision.log], ['no-drop', 'Needs a person.', null, 'run-1']);
  await assert.rejects(agent.act('tool.call', { tool: 'held' }), Held);
  await assert.rejects(agent.act('tool.call', { tool: 'paced' }), { errno: 'EAGAIN', retryAfterMs: 250 });
  for (const tool of ['silent', 'odd']) await assert.rejects(agent.act('tool.call', { tool }), Denied);
  await assert.rejects(agent.act('no.such'), { errno: 'EINVAL' });
  assert.equal((await agent.ask('tool.call', { tool: 'a', args: { q: 'drop' } })).verdict, 'deny');
  assert.equal((await agent.policy()).hash, '00');
});

test('what is done within an action is told with it', async () => {
  assert.equal(await agent.withAction('tool.call', { tool: 'a' }, () => 5), 5);
  await assert.rejects(agent.withAction('tool.call', { tool: 'a' }, () => Promise.reject(new TypeError('x'))), TypeError);
  let ran = false;
  await assert.rejects(agent.withAction('tool.call', { tool: 'held' }, () => (ran = true)), Held);
  assert.equal(ran, false);
  assert.deepEqual(server.told('done').map(({ ok, error }) => [ok, error]), [[true, undefined], [false, 'TypeError']]);
});

test('an action that is only left was not done', { skip: !Symbol.asyncDispose }, async () => {
  await (await agent.act('tool.call', { tool: 'a' }))[Symbol.asyncDispose]();
  const told = await agent.act('tool.call', { tool: 'a' });
  await told.done();
  await told[Symbol.asyncDispose]();
  assert.deepEqual(server.told('done').map(({ ok }) => ok), [false, true]);
});

test('what is held waits for somebody', async () => {
  await assert.rejects(agent.act('tool.call', { tool: 'held' }, { wait: 1 }), Held);
  assert.equal((await agent.act('tool.call', { tool: 'asked' }).catch((held) => held)).approval, 'ap-1');
  assert.equal(await agent.withAction('tool.call', { tool: 'asked' }, () => 3, { wait: 5 }), 3);
  assert.deepEqual(server.told('approval'), [{ id: 'ap-1' }]);
});

test('signals come, and can be kept away', async () => {
  const other = await Agent.connect();
  const came = new Promise((resolve) => other.onSignal(resolve));
  assert.deepEqual(await came, { event: true });
  assert.deepEqual(server.told('sigaction'), [{ events: true }]);
  assert.deepEqual(await other.mask('block', 'INT', 'USR1'), ['INT', 'USR1']);
  await assert.rejects(other.raiseSignal('KILL'), { name: 'Denied', errno: 'EPERM' });
  other.close();
});

test('commands run in rings of their own', async () => {
  assert.equal((await agent.run(['ls', '-l'], { ring: 3 })).exit_code, 7);
  assert.equal((await agent.elevate('standard', ['id'], { ttl: 5 })).stdout, 'x');
  assert.deepEqual(server.told('exec'), [{ argv: ['ls', '-l'], ttl_s: 300, ring: 3 }]);
  assert.deepEqual(server.told('elevate'), [{ argv: ['id'], ttl_s: 5, ring: 'standard' }]);
  await assert.rejects(agent.run(['drop']), Denied);
});

test('fields cannot pass for others', async () => {
  const action = await agent.act('tool.call', { tool: 'a', action: 'fs.read' });
  await action.done(true, { decision: { seq: 99 }, ok: false });
  assert.equal(server.told('act')[0].action, 'tool.call');
  assert.deepEqual(server.told('done')[0], { decision: action.decision, ok: true });
});

test('a function asks by the names of its arguments', async () => {
  const ran = [];
  const run = agent.governed((query, limit) => ran.push(query) && limit, { tool: 'sql.run', args: ['query', 'limit'] });
  assert.equal(await run('select 1', 10), 10);
  assert.deepEqual(server.told('act')[0].args, { query: 'select 1', limit: 10 });
  await assert.rejects(run('drop it'), Denied);
  await assert.rejects(run('a', 1, 'drop'), TypeError);
  const one = agent.governed(async function query({ text }) { return text; });
  assert.equal(await one({ text: 'select 2' }), 'select 2');
  assert.equal(server.told('act').at(-1).tool, 'query');
  for (const given of ['drop', ['drop'], new Map([['text', 'drop']]), new (class { text = 'drop'; })()]) {
    await assert.rejects(one(given), TypeError);
  }
  const made = agent.governed((a, b) => a + b, { tool: 'sum', args: (a, b) => ({ sum: a + b }) });
  assert.equal(await made(1, 2), 3);
  assert.deepEqual(server.told('act').at(-1).args, { sum: 3 });
  assert.deepEqual(ran, ['select 1']);
  assert.throws(() => agent.governed(() => 1), TypeError);
});

test('what JSON has no word for is shown', async () => {
  const args = { big: 5n, nan: NaN, map: new Map([['q', 'x']]), set: new Set([1]), re: /drop/, bytes: new Uint8Array([1]) };
  await assert.rejects(agent.act('tool.call', { tool: 'a', args }), Denied);
  const shown = { big: '5', nan: 'NaN', map: { q: 'x' }, set: [1], re: '/drop/', bytes: 'AQ==' };
  assert.deepEqual(server.told('act')[0].args, shown);
});

test('calls are under way at once', async () => {
  const late = agent.act('tool.call', { tool: 'late' });
  await (await agent.act('tool.call', { tool: 'a' })).done();
  server.late.pop()();
  await (await late).done();
  const many = await Promise.allSettled(
    Array.from({ length: 300 }, (_, at) => agent.act('tool.call', { tool: 'a', args: { q: at % 2 ? 'drop' : 'keep' } })),
  );
  assert.ok(many.every(({ status }, at) => (status === 'fulfilled') === (at % 2 === 0)));
});

test('lost stays lost', async () => {
  for (const tool of ['gone', 'huge', 'list']) {
    const other = await Agent.connect();
    const late = other.act('tool.call', { tool: 'late' });
    await Promise.all([assert.rejects(late, Lost), assert.rejects(other.act('tool.call', { tool }), Lost)]);
    await assert.rejects(other.ready(), Lost);
  }
  const closed = await Agent.connect();
  closed.close();
  await assert.rejects(closed.ready(), { name: 'Lost', message: 'closed' });
});

test('what is too long is not sent', async () => {
  await assert.rejects(agent.act('tool.call', { tool: 'a', args: { q: 'x'.repeat(65536) } }), AgtError);
  await agent.ready();
});

test('outside of a ring', async () => {
  for (const [name, value] of [['AGT_SOCKET', ''], ['AGT_SOCKET', '/no/such'], ['AGT_FD', '999'], ['AGT_FD', 'x']]) {
    delete process.env.AGT_FD;
    process.env[name] = value;
    await assert.rejects(Agent.connect(), NotInARing);
  }
  delete process.env.AGT_FD;
  process.env.AGT_SOCKET = server.path;
});

test('a program that has nothing left to do ends', async () => {
  const script = `import { Agent } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)};
    const agent = await Agent.connect(); await agent.ready(); console.log('up');`;
  const ran = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { timeout: 10_000 });
  assert.equal(ran.stdout, 'up\n');
});
