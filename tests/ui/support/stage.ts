// The stage: a real manager with real machines, as a program of its own that does what it is asked.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** What the stage says first. */
export interface Opening {
  url: string;
  agent_address: string;
  /** The hash of the certificate's key, by which the browser knows the manager. */
  spki: string;
  password: string;
  rest_url: string;
  ca_pem: string;
}

/** A machine with a real agent. */
export interface Machine {
  host: string;
  repository: string;
  plan: string;
  source: string;
  snapshot: string;
}

/** A machine whose agent says what it is told to. */
export interface Puppet {
  host: string;
  repository: string;
  plan: string;
}

/** What a puppet says of a run, in this order. */
export interface Words {
  started?: string;
  lines?: string[];
  progress?: Record<string, unknown>;
  finished?: Record<string, unknown>;
}

/** An answer of the manager to another client. */
export interface Called {
  status: number;
  body: unknown;
}

type Waiting = { resolve: (value: unknown) => void; reject: (error: Error) => void };

const root = fileURLToPath(new URL('../../..', import.meta.url));
const program = process.env['RESTIC_MANAGER_STAGE'] ?? join(root, 'target/debug/stage');
const tools = process.env['RESTIC_MANAGER_TEST_TOOLS'] ?? join(root, 'target/tools');
const pages = process.env['RESTIC_MANAGER_PAGES'] ?? join(root, 'ui/dist');

/** A running stage. */
export class Stage {
  readonly #waiting = new Map<number, Waiting>();
  #count = 0;
  #ended: Error | undefined;

  private constructor(
    private readonly process: ChildProcessWithoutNullStreams,
    private readonly folder: string,
    readonly opening: Opening,
  ) {}

  /** Sets one up in a folder of its own. */
  static async set(): Promise<Stage> {
    const folder = await mkdtemp(join(tmpdir(), 'stage-'));
    const args = ['--root', folder, '--tools', tools, '--pages', pages];
    const child = spawn(program, args);
    child.stderr.pipe(process.stderr);
    const lines = createInterface({ input: child.stdout });
    const first = (await Promise.race([
      once(lines, 'line').then(([line]) => JSON.parse(line as string) as unknown),
      once(child, 'error').then(([error]) => Promise.reject(error as Error)),
    ])) as Opening & { error?: string };
    if (first.error) throw new Error(`the stage was not set: ${first.error}`);
    const stage = new Stage(child, folder, first);
    lines.on('line', (line) => stage.#take(line));
    child.on('exit', (code) => stage.#end(new Error(`the stage ended with ${code}`)));
    return stage;
  }

  /** Ends everything on it. */
  async strike(): Promise<void> {
    const exit = once(this.process, 'exit');
    this.process.stdin.end();
    await exit;
    await rm(this.folder, { recursive: true, force: true });
  }

  #take(line: string): void {
    const { id, ok, error } = JSON.parse(line) as { id: number; ok?: unknown; error?: string };
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(ok);
    else waiting?.reject(new Error(error));
  }

  #end(error: Error): void {
    this.#ended = error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  #ask<T>(what: string, more: object): Promise<T> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#count;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.process.stdin.write(`${JSON.stringify({ id, do: what, ...more })}\n`);
    return answer as Promise<T>;
  }

  machine(
    name: string,
    until: 'connected' | 'initialised' | 'backed_up',
    source: 'small' | 'big' = 'small',
  ): Promise<Machine> {
    return this.#ask('machine', { name, source, until });
  }

  /** Pastes an install block on a machine and starts its agent. */
  install(name: string, block: string): Promise<{ host: string }> {
    return this.#ask('install', { name, block });
  }

  /** Announces a machine, and returns the code that it shows. */
  async announce(name: string): Promise<string> {
    return (await this.#ask<{ code: string }>('announce', { name })).code;
  }

  /** Types a code on a machine that announces itself. */
  typeCode(name: string, code: string): Promise<void> {
    return this.#ask('type_code', { name, code });
  }

  /** Waits until the announcing has ended; the agent of a machine that came in is started. */
  announced(name: string): Promise<{ host: string | null; printed: string }> {
    return this.#ask('announced', { name });
  }

  /** Makes files to back up, and returns their folder. */
  async files(name: string, source: 'small' | 'big' = 'small'): Promise<string> {
    return (await this.#ask<{ source: string }>('files', { name, source })).source;
  }

  /** A new user of the rest-server, with this password or a new one. */
  user(name: string, credential?: string): Promise<{ credential: string; url: string }> {
    return this.#ask('user', { name, credential: credential ?? null });
  }

  agent(name: string, act: 'start' | 'stop' | 'kill'): Promise<void> {
    return this.#ask('agent', { name, act });
  }

  manager(act: 'start' | 'stop' | 'kill'): Promise<void> {
    return this.#ask('manager', { act });
  }

  restServer(act: 'start' | 'kill'): Promise<void> {
    return this.#ask('rest_server', { act });
  }

  network(
    of: 'agents' | 'rest_server',
    mode: 'open' | 'crawling' | 'silent' | 'cut',
  ): Promise<void> {
    return this.#ask('network', { of, mode });
  }

  puppet(name: string, hostname = name): Promise<Puppet> {
    return this.#ask('puppet', { name, hostname });
  }

  /** Resolves once the manager has acknowledged all of it. */
  say(name: string, run: string, words: Words): Promise<void> {
    return this.#ask('say', { name, run, ...words });
  }

  /** A request of another client. */
  call(method: string, path: string, body?: object): Promise<Called> {
    return this.#ask('call', { method, path, body: body ?? null });
  }

  /** Asks for a run as another client, and returns its id. */
  async run(host: string, form: object): Promise<string> {
    const { status, body } = await this.call('POST', `/api/hosts/${host}/runs`, form);
    if (status >= 300) throw new Error(`the run was refused: ${JSON.stringify(body)}`);
    return (body as { id: string }).id;
  }

  /** Waits until a run has ended. */
  ended(run: string): Promise<{ status: string; restore?: { target: string } }> {
    return this.#ask('ended', { run });
  }

  differences(source: string, restored: string): Promise<string[]> {
    return this.#ask('differences', { source, restored });
  }

  /** A sentence for each secret that stands in one of these texts. */
  secrets(texts: { name: string; text: string }[]): Promise<string[]> {
    return this.#ask('secrets', { texts });
  }
}
