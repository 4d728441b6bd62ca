// Things to test with: views as the server makes them, and a transport that is played by hand.
import type { Answer, StreamEvent, Transport } from '$lib/api/transport';
import { Refused } from '$lib/api/transport';
import type {
  Alarm,
  Announcement,
  Away,
  Channel,
  LastRun,
  Machine,
  Notice,
  Plan,
  Repository,
  Run,
  Store,
  StoredRepository,
  Verdict,
} from '$lib/api/types';
import type { Platform } from '$lib/platform';

/** The point in time of the tests. */
export const NOW = Date.parse('2026-11-24T12:00:00Z');

/** A time before {@link NOW}. */
export const ago = (hours: number) => new Date(NOW - hours * 3_600_000).toISOString();

/** A good backup of so many hours ago. */
export const goodBackup = (hours: number, isPartial = false): Machine['last_good'] => ({
  run_id: 'good',
  at: ago(hours),
  is_partial: isPartial,
});

/** A machine whose last backup was three hours ago; its plans stand as its newest backup does. */
export function machine(more: Partial<Machine> = {}): Machine {
  const id = more.id ?? 'm1';
  const { plan_ids = ['p1'], last_runs = [backupRun({ id: `${id}-b` })] } = more;
  const { last_good = last_runs.length > 0 ? goodBackup(3) : null } = more;
  const last_run = last_runs.find((it) => it.kind === 'backup') ?? null;
  const verdict = more.verdict === undefined ? verdictOf(last_run, last_good) : more.verdict;
  return {
    id,
    name: 'atlas',
    hostname: 'atlas',
    os: 'linux',
    arch: 'amd64',
    agent_version: '0.1.0',
    restic_version: '0.18.0',
    protocol_version: 2,
    state: 'enrolled',
    is_online: true,
    last_seen_at: ago(0),
    enrolled_at: ago(1000),
    time_zone: 'Europe/Berlin',
    mode: 'always_on',
    stale_after_days: 14,
    next_at: null,
    tags: [],
    plan_ids,
    repository_ids: ['r1'],
    desired_generation: 1,
    acked_generation: 1,
    in_sync: true,
    last_runs,
    last_good,
    verdict: plan_ids.length > 0 ? verdict : null,
    plans: plan_ids.map((plan_id) => ({ plan_id, enabled: true, last_run, last_good, verdict })),
    next_action: { action: 'run_now', kind: 'backup', plan_id: 'p1' },
    ...more,
  };
}

/** How a plan without times stands, more or less as the server says. */
function verdictOf(last: LastRun | null, good: Machine['last_good']): Verdict {
  if (last?.status === 'failed') return 'failed';
  if (!good) return 'never';
  return good.is_partial ? 'partial' : 'protected';
}

/** A backup that ended well three hours ago. */
export function backupRun(more: Partial<LastRun> = {}): LastRun {
  return {
    id: 'b',
    kind: 'backup',
    status: 'succeeded',
    created_at: ago(3.1),
    finished_at: ago(3),
    ...more,
  };
}

/** A run that is going. */
export function run(more: Partial<Run> = {}): Run {
  return {
    id: 'x1',
    host_id: 'm1',
    host_name: 'atlas',
    kind: 'backup',
    options: { dry_run: false, read_data: false, include: [] },
    status: 'running',
    is_terminal: false,
    dispatch: { stage: 'running', words: 'restic is at work' },
    requested_by: 'admin',
    created_at: ago(1),
    unreadable: [],
    unreadable_count: 0,
    ...more,
  };
}

/** A notice about the manager. */
export function notice(more: Partial<Notice> = {}): Notice {
  return {
    id: 'n1',
    code: 'clone_suspected',
    subject: '',
    message: 'Two machines use one identity.',
    guidance: 'Enrol one of them anew.',
    opened_at: ago(2),
    last_at: ago(1),
    times: 1,
    ...more,
  };
}

/** A machine that asks to join, confirmed by its root. */
export function announcement(more: Partial<Announcement> = {}): Announcement {
  return {
    id: 'a1',
    code: 'ABCD-EFGH',
    hostname: 'web-1',
    os: 'linux',
    arch: 'amd64',
    agent_version: '0.1.0',
    address: '192.0.2.7',
    announced_at: ago(0),
    expires_at: new Date(NOW + 900_000).toISOString(),
    is_confirmed: true,
    is_name_taken: false,
    ...more,
  };
}

/** An initialised repository. */
export function repository(more: Partial<Repository> = {}): Repository {
  return {
    id: 'r1',
    name: 'box',
    url: 'rest:http://localhost:8000/box/',
    append_only: false,
    has_credential: false,
    created_at: ago(1000),
    updated_at: ago(1000),
    initialised_at: ago(999),
    host_ids: ['m1'],
    plan_ids: ['p1'],
    facts: { locks: [] },
    ...more,
  };
}

/** A channel for all machines. */
export function channel(more: Partial<Channel> = {}): Channel {
  return {
    id: 'c1',
    name: 'Chat',
    kind: 'webhook',
    place: 'https://chat.example',
    has_token: true,
    mail: null,
    all_hosts: true,
    host_ids: [],
    host_tags: [],
    all_host_ids: ['m1'],
    created_at: ago(100),
    updated_at: ago(100),
    revision: 0,
    ...more,
  };
}

/** An alarm that was told by one channel. */
export function alarm(more: Partial<Alarm> = {}): Alarm {
  return {
    id: 'al1',
    host_id: 'm1',
    plan_id: 'p1',
    state: 'failed',
    was: 'good',
    at: ago(2),
    deliveries: [{ channel_id: 'c1', channel_name: 'Chat', result: 'sent', attempts: 1 }],
    ...more,
  };
}

/** A plan. */
export function plan(more: Partial<Plan> = {}): Plan {
  return {
    id: 'p1',
    name: 'docs',
    enabled: true,
    repository_id: 'r1',
    paths: ['/etc'],
    excludes: [],
    presets: [],
    tags: [],
    options: { hooks: {} },
    host_ids: ['m1'],
    host_tags: [],
    all_host_ids: more.host_ids ?? ['m1'],
    revision: 0,
    created_at: ago(1000),
    updated_at: ago(1000),
    ...more,
  };
}

/** Nobody was away. */
export function away(more: Partial<Away> = {}): Away {
  const tally = { succeeded: 0, partial: 0, failed: 0, interrupted: 0, cancelled: 0, missed: 0 };
  return { since: null, until: ago(0), tally, troubled: [], ...more };
}

/** A store without a folder. */
export function store(more: Partial<Store> = {}): Store {
  return {
    state: 'homeless',
    folder: null,
    default_folder: '/home/admin/store',
    total_bytes: null,
    free_bytes: null,
    repositories: [],
    sizes: [],
    ...more,
  };
}

/** What a machine has in the store. */
export function stored(more: Partial<StoredRepository> = {}): StoredRepository {
  return {
    repository_id: 's1',
    name: 'atlas on this computer',
    host_id: 'm1',
    host_name: 'atlas',
    has_left: false,
    folder: '/mnt/backups/s1',
    used_bytes: 12_000_000_000,
    quota_bytes: null,
    last_arrival_at: ago(3),
    deletions: [],
    ...more,
  };
}

/** A stream that a test plays. */
export interface FakeStream {
  path: string;
  signal: AbortSignal;
  send: (event: string, data: unknown, id?: string) => void;
  open: () => void;
  /** Ends it, as the server does. */
  end: () => void;
  /** Breaks it, as a network does. */
  break: () => void;
  refuse: (answer: Answer) => void;
}

type Handler = (body: unknown, path: string) => { status?: number; body?: unknown } | undefined;

/** A transport whose answers and events a test gives. */
export class FakeTransport implements Transport {
  /** Every request, oldest first. */
  readonly requests: { method: string; path: string; body: unknown }[] = [];
  /** Every stream, oldest first. */
  readonly streams: FakeStream[] = [];
  #handlers = new Map<string, Handler>();

  /** Answers requests of this method and path, without its query. */
  on(method: string, path: string, handler: Handler | unknown): this {
    const answer = typeof handler === 'function' ? (handler as Handler) : () => ({ body: handler });
    this.#handlers.set(`${method} ${path}`, answer);
    return this;
  }

  /** The bodies of the requests of this method and path. */
  sent(method: string, path: string): unknown[] {
    return this.requests
      .filter((it) => it.method === method && it.path.split('?')[0] === path)
      .map((it) => it.body);
  }

  async request(method: string, path: string, body?: string): Promise<Answer> {
    const parsed: unknown = body === undefined ? undefined : JSON.parse(body);
    this.requests.push({ method, path, body: parsed });
    const handler = this.#handlers.get(`${method} ${path.split('?')[0] ?? ''}`);
    const answer = handler?.(parsed, path);
    if (!answer) return { status: 404, headers: {}, body: '{"code":"not_found","message":"No."}' };
    const text = answer.body === undefined ? '' : JSON.stringify(answer.body);
    const headers = { 'content-type': 'application/json', 'content-length': String(text.length) };
    return { status: answer.status ?? 200, headers, body: text };
  }

  stream(path: string, onEvent: (event: StreamEvent) => void, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      this.streams.push({
        path,
        signal,
        send: (event, data, id) => onEvent({ event, id, data: JSON.stringify(data) }),
        open: () => onEvent({ event: 'open', data: '' }),
        end: () => resolve(),
        break: () => reject(new TypeError('network')),
        refuse: (answer) => reject(new Refused(answer)),
      });
    });
  }
}

/** A platform that remembers what was copied. */
export function fakePlatform(): Platform & { copied: string[] } {
  const copied: string[] = [];
  return {
    copied,
    capabilities: { quit: false, signOut: true },
    copy: async (text) => void copied.push(text),
    saveText: async () => {},
    quit: async () => {},
  };
}

/** A refusal as the server writes it. */
export const refusal = (code: string, message: string, more: object = {}) => ({
  status: 422,
  body: { code, message, ...more },
});
