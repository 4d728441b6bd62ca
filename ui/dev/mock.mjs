// A manager that is made up, for looking at the window with many machines and at what the real one
// cannot show on demand: `node dev/mock.mjs [machines]`, then `npm run dev:mock`. Never shipped.
import { createServer } from 'node:http';

const COUNT = Number(process.argv[2] ?? 300);
const HOUR = 3_600_000;
const ago = (hours) => new Date(Date.now() - hours * HOUR).toISOString();
const uuid = (kind, n) => `${kind}0000000-0000-7000-8000-${String(n).padStart(12, '0')}`;
let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;

const NAMES =
  'atlas db-01 fileserver reception laptop-3 nas-basement kiosk-2 web-01 web-02 lab-new'.split(' ');
const name = (i) =>
  NAMES[i] ?? `${['web', 'db', 'ws', 'lab', 'nas'][i % 5]}-${String(i).padStart(3, '0')}`;
// What the first ten show; the others are mostly fine.
const SHOWN = [
  'running',
  'failed',
  'good',
  'partial',
  'away',
  'good',
  'stale',
  'good',
  'good',
  'new',
];
const kindOf = (i) => {
  if (SHOWN[i]) return SHOWN[i];
  const roll = random();
  if (roll < 0.03) return 'failed';
  if (roll < 0.05) return 'partial';
  if (roll < 0.07) return 'silent';
  if (roll < 0.09) return 'running';
  return roll < 0.14 ? 'away' : 'good';
};

const machines = Array.from({ length: COUNT }, (_, i) => {
  const kind = kindOf(i);
  const id = uuid('a', i);
  const plan = uuid('c', i);
  const hours = { stale: 24 * 11, silent: 60, failed: 10, away: 20 }[kind] ?? 1 + random() * 20;
  const status = { failed: 'failed', partial: 'partial', running: 'running' }[kind] ?? 'succeeded';
  const last = {
    id: uuid('d', i),
    kind: 'backup',
    status,
    created_at: ago(hours),
    finished_at: status === 'running' ? null : ago(hours),
    code:
      kind === 'failed'
        ? ['repository_locked', 'repository_unreachable', 'disk_full'][i % 3]
        : null,
  };
  const next = {
    running: { action: 'view', run_id: last.id },
    failed: { action: 'retry', kind: 'backup', plan_id: plan, run_id: last.id },
    new: { action: 'initialise', kind: 'init', repository_id: uuid('b', i) },
  }[kind] ?? { action: 'run_now', kind: 'backup', plan_id: plan };
  const isGood = ['succeeded', 'partial'].includes(status);
  const goodAt = ago(isGood ? hours : hours + 24);
  const good =
    kind === 'new'
      ? null
      : { run_id: isGood ? last.id : uuid('e', i), at: goodAt, is_partial: status === 'partial' };
  const isOnline = !['away', 'silent', 'stale'].includes(kind);
  return {
    id,
    name: name(i),
    hostname: name(i),
    os: ['linux', 'linux', 'linux', 'windows', 'darwin'][i % 5],
    arch: i % 5 === 0 && i > 0 ? 'arm64' : 'amd64',
    agent_version: '0.1.0',
    restic_version: '0.18.0',
    protocol_version: 2,
    state: 'enrolled',
    is_online: isOnline,
    last_seen_at: isOnline ? ago(0) : ago(kind === 'away' ? 3 : hours),
    enrolled_at: ago(4000),
    tags: [],
    plan_ids: [plan],
    repository_ids: [uuid('b', i)],
    desired_generation: 1,
    acked_generation: 1,
    in_sync: true,
    last_runs: kind === 'new' ? [] : [last],
    last_good: good,
    plans: [
      {
        plan_id: plan,
        enabled: true,
        last_run: kind === 'new' ? null : last,
        last_good: good,
      },
    ],
    next_action: next,
    size: Math.round(1e9 * 10 ** (random() * 3.4)),
    kind,
  };
});

const repositories = machines.map((it, i) => ({
  id: uuid('b', i),
  name: it.name,
  url: `rest:https://vault.lan:8000/${it.name}/`,
  username: it.name,
  append_only: false,
  has_credential: true,
  created_at: ago(4000),
  updated_at: ago(4000),
  initialised_at: it.kind === 'new' ? null : ago(3999),
  host_ids: [it.id],
  plan_ids: it.plan_ids,
  facts: {
    size_bytes: it.kind === 'new' ? null : it.size,
    snapshot_count: 64,
    dedup_ratio: 3.1,
    read_at: ago(2),
    snapshots_read_at: ago(2),
    last_check_at: ago(30),
    last_check_status: 'succeeded',
    lock_state: it.kind === 'failed' ? 'locked' : 'unlocked',
    locks:
      it.kind === 'failed'
        ? [
            {
              id: 'l1',
              hostname: 'reception',
              pid: 4711,
              username: 'root',
              exclusive: true,
              time: ago(11),
            },
          ]
        : [],
  },
}));
const plans = machines.map((it, i) => ({
  id: uuid('c', i),
  name: `${it.name} files`,
  enabled: true,
  repository_id: uuid('b', i),
  paths: ['/etc', '/home', '/srv'],
  excludes: ['*.tmp'],
  presets: ['trash'],
  tags: [],
  options: { hooks: {} },
  cron: '0 2 * * *',
  host_ids: [it.id],
  host_tags: [],
  all_host_ids: [it.id],
  revision: 0,
  retention: { keep_daily: 7, keep_weekly: 5, keep_monthly: 12 },
  created_at: ago(4000),
  updated_at: ago(4000),
}));

const progress = (i) => {
  const share = ((Date.now() / 1000 + i * 37) % 600) / 600;
  return {
    percent_done: share,
    files_done: Math.round(604119 * share),
    total_files: 604119,
    bytes_done: Math.round(412e9 * share),
    total_bytes: 412e9,
    eta_seconds: Math.round(600 * (1 - share)),
    throughput_bps: 248e6,
    current_files: ['/srv/media/raw/2026-10/DSC_4410.NEF'],
    unreachable: null,
  };
};
const runOf = (it, i, more = {}) => {
  const last = it.last_runs[0];
  const isOpen = last.status === 'running';
  return {
    id: last.id,
    host_id: it.id,
    host_name: it.name,
    plan_id: uuid('c', i),
    plan_name: `${it.name} files`,
    repository_id: uuid('b', i),
    kind: 'backup',
    options: { dry_run: false, read_data: false, include: [] },
    status: last.status,
    is_terminal: !isOpen,
    dispatch: { stage: isOpen ? 'running' : 'ended', words: isOpen ? 'Running.' : 'Ended.' },
    requested_by: 'admin',
    created_at: last.created_at,
    started_at: last.created_at,
    finished_at: last.finished_at && new Date(Date.parse(last.finished_at) + 664_000).toISOString(),
    progress: isOpen ? progress(i) : null,
    code: last.code,
    error:
      last.status === 'failed'
        ? 'The repository is locked by reception since 02:14.'
        : last.status === 'partial'
          ? '2 files could not be read.'
          : null,
    guidance:
      last.status === 'failed'
        ? 'Look at the locks in the settings of the machine; if that process is gone, unlock.'
        : null,
    unreadable:
      last.status === 'partial'
        ? [{ path: 'C:\\Users\\office\\outlook.pst', error: 'The process cannot access the file.' }]
        : [],
    unreadable_count: last.status === 'partial' ? 2 : 0,
    stats: {
      data_added_packed: 3.2e9,
      total_bytes_processed: 412e9,
      total_files_processed: 604119,
      files_new: 1200,
      files_changed: 3118,
    },
    ...more,
  };
};
const runs = machines.flatMap((it, i) => (it.last_runs.length > 0 ? [runOf(it, i)] : []));
for (let day = 1; day < 40; day += 1) {
  const i = day % Math.min(COUNT || 1, 10);
  if (!machines[i]?.last_runs.length || machines[i].kind === 'running') continue;
  const kind = ['backup', 'check', 'backup', 'prune', 'restore'][day % 5];
  runs.push({
    ...runOf(machines[i], i),
    id: uuid('e', day),
    kind,
    status: 'succeeded',
    error: null,
    guidance: null,
    unreadable: [],
    unreadable_count: 0,
    created_at: ago(day * 24),
    started_at: ago(day * 24),
    finished_at: ago(day * 24 - 0.2),
  });
}

const snapshots = (it) =>
  Array.from({ length: 64 }, (_, n) => ({
    id: `${(n * 2654435761).toString(16).padStart(8, '0').slice(0, 8)}${'0'.repeat(48)}${String(n).padStart(8, '0')}`,
    short_id: (n * 2654435761).toString(16).padStart(8, '0').slice(0, 8),
    time: ago(n * 36 + 3),
    hostname: it.hostname,
    paths: ['/etc', '/home', '/srv'],
    tags: [`plan:${it.plan_ids[0]}`],
    size_bytes: Math.round(it.size * (1.6 - n * 0.011 + (n % 7) * 0.01)),
    file_count: 604119 - n * 900,
    added_bytes: Math.round(3e9 * (0.5 + (n % 5) / 5)),
  }));

const DIRS = {
  '/': ['etc', 'home', 'srv'],
  '/etc': ['apt', 'ssh', 'systemd'],
  '/home': ['office', 'shop'],
  '/srv': ['media', 'www'],
};
function tree(path) {
  const base = path === '/' ? '' : path;
  const dirs = (DIRS[path] ?? []).map((it) => ({
    name: it,
    path: `${base}/${it}`,
    kind: 'dir',
    mtime: ago(50),
    mode: 'drwxr-xr-x',
    can_choose: true,
  }));
  const files =
    path === '/'
      ? []
      : Array.from({ length: path.startsWith('/srv') ? 900 : 14 }, (_, n) => ({
          name: `file-${n + 1}.txt`,
          path: `${base}/file-${n + 1}.txt`,
          kind: n === 3 ? 'symlink' : 'file',
          size: 1000 + n * 7919,
          mtime: ago(100 + n * 30),
          mode: '-rw-r--r--',
          can_choose: n !== 7,
        }));
  return { path, entries: [...dirs, ...files], read_at: ago(0) };
}

const LOG = [
  'open repository',
  'repository 8d1f2a77 opened (version 2, compression level auto)',
  'lock repository',
  'using parent snapshot 3bc19e02',
  'start scan on [/etc /home /srv]',
  'scan finished in 88.7s: 604119 files, 412.0 GiB',
  'could not read /srv/tmp/lock.sock: socket skipped',
];
const logLine = (seq) => ({
  seq,
  ts: ago(0.3 - seq * 0.0001),
  stream: seq % 97 === 6 ? 'stderr' : seq < 3 ? 'event' : 'stdout',
  text:
    LOG[seq - 1] ??
    `new       /srv/media/raw/2026-10/DSC_${String(4000 + seq)}.NEF, saved in 0.${seq % 9}s`,
});

const page = (list, query) => list.slice(0, Number(query.get('limit') ?? 50));
const find = (list, id) => list.find((it) => it.id === id);
const withProgress = (it) =>
  it.status === 'running' ? { ...it, progress: progress(Number(it.id.slice(-6))) } : it;

function answer(method, path, query) {
  const [, api, kind, id, sub, sid] = path.split('/');
  if (api !== 'api') return undefined;
  if (kind === 'session') return { signed_in: true, principal: 'admin', expires_at: ago(-12) };
  if (kind === 'system')
    return {
      version: '0.1.0',
      addresses: ['192.168.1.20:8443'],
      epoch: 1,
      incarnation: uuid('f', 1),
      manager_key: 'WhOMzMiTqD-J88dKXRe0nYmFfAZhB7Sf75Fp34qc6JQ',
      root_certificate_pem: '',
      counts: {
        hosts: COUNT,
        online: machines.filter((it) => it.is_online).length,
        open_notices: 0,
        unreadable_hosts: 0,
        open_runs: 0,
        plans: COUNT,
        repositories: COUNT,
      },
    };
  if (kind === 'notices')
    return COUNT > 5
      ? [
          {
            id: uuid('9', 1),
            code: 'enrolment_suspect',
            subject: '',
            message: 'An install line was used twice.',
            guidance: 'Revoke the machine that you do not know, and add the other anew.',
            host_id: machines[9]?.id ?? null,
            opened_at: ago(5),
            last_at: ago(4),
            times: 2,
          },
        ]
      : [];
  if (kind === 'audit' || kind === 'enrolments') return [];
  if (kind === 'plans' && id === 'presets') {
    const trash = { linux: ['.Trash-*'], darwin: ['.Trashes'], windows: ['$RECYCLE.BIN'] };
    const help = 'What was deleted and is not gone yet.';
    return [{ name: 'trash', title: 'Trash', help, everywhere: [], ...trash }];
  }
  if (kind === 'plans') return plans;
  if (kind === 'repositories' && id === 'test')
    return { state: 'empty', message: 'The server answers, and there is no repository yet.' };
  if (kind === 'repositories' && sub === 'snapshots' && sid) return tree(query.get('path') ?? '/');
  if (kind === 'repositories' && sub === 'snapshots') {
    const i = repositories.findIndex((it) => it.id === id);
    const all = machines[i]?.kind === 'new' ? [] : snapshots(machines[i]);
    return {
      snapshots: all.slice(Number(query.get('offset') ?? 0)),
      total: all.length,
      read_at: ago(2),
    };
  }
  if (kind === 'repositories') return repositories;
  if (kind === 'hosts' && !id) return machines;
  if (kind === 'hosts' && sub === 'runs' && method === 'GET') {
    const older = [
      {
        ...runOf(find(machines, id), 0),
        id: uuid('8', 1),
        status: 'succeeded',
        finished_at: ago(50),
      },
    ];
    const own = runs.filter((it) => it.host_id === id);
    return page(
      query.get('open') === 'false' ? [...own.filter((it) => it.is_terminal), ...older] : own,
      query,
    ).map(withProgress);
  }
  if (kind === 'hosts') return find(machines, id);
  if (kind === 'runs' && id) return withProgress(find(runs, id));
  if (kind === 'runs') {
    const open = query.get('open');
    const list = runs
      .filter((it) => (open === null ? true : it.is_terminal === (open === 'false')))
      .filter((it) => !query.get('host_id') || it.host_id === query.get('host_id'))
      .filter((it) => !query.get('kind') || it.kind === query.get('kind'));
    return page(list, query).map(withProgress);
  }
  return undefined;
}

function stream(response, path, query) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.write(': hello\n\n');
  const id = path.split('/')[3];
  const run = find(runs, id);
  if (!run) return setInterval(() => response.write(': \n\n'), 10_000);
  const send = (event, data) =>
    response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  let seq = Number(query.get('after_line') ?? 0);
  const lines = (n) =>
    send('line', { lines: Array.from({ length: n }, () => logLine((seq += 1))) });
  send('state', withProgress(run));
  lines(1204);
  if (run.is_terminal) {
    send('end', { status: run.status, last_line: seq });
    response.end();
    return undefined;
  }
  return setInterval(() => {
    send('progress', progress(Number(id.slice(-6))));
    lines(1);
  }, 500);
}

createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname.endsWith('/stream') || url.pathname === '/api/events') {
    const timer = stream(response, url.pathname, url.searchParams);
    request.on('close', () => clearInterval(timer));
    return;
  }
  const delay = url.pathname.endsWith('/tree') ? 600 : 0;
  setTimeout(() => {
    const body = answer(request.method, url.pathname, url.searchParams);
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(
      JSON.stringify(body ?? { code: 'not_found', message: 'The made-up manager cannot do that.' }),
    );
  }, delay);
}).listen(9799, () => console.log(`A made-up manager of ${COUNT} machines: http://localhost:9799`));
