// Which chosen folders are left out, as restic reads the patterns; where that is not certain, nothing is said.
import { describe, expect, it } from 'vitest';
import { exclusions, leftOut, leftOutWords } from './excluded';

const caches = {
  name: 'caches',
  title: 'Caches',
  help: '',
  everywhere: [],
  linux: ['/tmp/*', '/home/*/.cache/*'],
  darwin: ['/Users/*/Library/Caches/*'],
  windows: ['AppData\\Local\\Temp\\*', 'C:\\pagefile.sys', '$RECYCLE.BIN'],
};
const build = {
  name: 'build',
  title: 'Build folders',
  help: '',
  everywhere: ['node_modules', 'target/debug'],
  linux: [],
  darwin: [],
  windows: [],
};

const taken = (pattern: string | string[], path: string) =>
  leftOut([path], exclusions([pattern].flat(), [])).length > 0;

describe('a pattern', () => {
  // Each of these was seen with `restic backup --dry-run --exclude …` (0.18).
  it.each([
    ['/home/*/.cache/*', '/home/u/.cache/app'],
    ['/home/*/.cache/*', '/home/u/.cache'],
    ['/home/*/.cache', '/home/u/.cache'],
    ['node_modules', '/home/u/node_modules/x'],
    ['node_modules', '/home/u/node_modules'],
    ['node_modules/*', '/home/u/node_modules'],
    ['u/node_modules', '/home/u/node_modules/x'],
    ['/home/u/node_modules/', '/home/u/node_modules/x'],
    ['node_modules/', '/home/u/node_modules/x'],
    ['.ca?he', '/home/u/.cache'],
    ['*', '/home/u'],
  ])('%s takes %s', (pattern, path) => {
    expect(taken(pattern, path)).toBe(true);
    expect(taken(pattern, `${path}/`)).toBe(true);
  });

  it.each([
    ['/home/*/.cache/*', '/home/u'],
    ['/home/*/.cache/*', '/home/u/.cached/app'],
    ['/home/*/.cache/app', '/home/u/.cache'],
    ['node_modules', '/home/u/node_modules2'],
    ['node_modules/x', '/home/u/node_modules'],
    ['/u/node_modules', '/home/u/node_modules'],
    ['*.tmp', '/home/u'],
    ['Node_Modules', '/home/u/node_modules'],
    ['home.u', '/home-u'],
  ])('%s does not take %s', (pattern, path) => {
    expect(taken(pattern, path)).toBe(false);
  });

  it('whose meaning is not certain says nothing, and one that takes back silences all', () => {
    expect(taken('[n]ode_modules', '/home/u/node_modules')).toBe(false);
    expect(taken('/home/**/x', '/home/u/x')).toBe(false);
    expect(taken('.cache', '/home/u/.cache/../docs')).toBe(false);
    expect(taken(['.cache', '!.cache'], '/home/u/.cache')).toBe(false);
  });

  it('is read as Windows does where the path is one of Windows', () => {
    expect(taken('AppData\\Local\\Temp\\*', 'C:\\Users\\u\\AppData\\Local\\Temp')).toBe(true);
    expect(taken('C:\\Data', 'C:\\Data\\x')).toBe(true);
    expect(taken('$RECYCLE.BIN', 'C:\\$RECYCLE.BIN\\x')).toBe(true);
    expect(taken('C:\\Data', 'D:\\Data')).toBe(false);
    expect(taken('\\Data', 'D:\\Data')).toBe(false);
  });
});

describe('a set', () => {
  const of = (path: string, systems?: string[]) =>
    leftOut([path], exclusions([], [caches, build], systems)).map(leftOutWords);

  it('is named with its pattern, and with its system where there may be others', () => {
    expect(of('/home/u/app/node_modules', ['linux', 'darwin'])).toEqual([
      'Nothing of /home/u/app/node_modules is backed up: “Build folders” leaves out node_modules.',
    ]);
    const on = (where: string) =>
      `Nothing of /home/u/.cache/x is backed up${where}: “Caches” leaves out /home/*/.cache/*.`;
    expect(of('/home/u/.cache/x', ['linux'])).toEqual([on('')]);
    expect(of('/home/u/.cache/x', ['linux', 'darwin'])).toEqual([on(' on Linux')]);
    expect(of('/home/u/.cache/x')).toEqual([on(' on Linux')]);
  });

  it('counts only on systems that the plan has', () => {
    expect(of('/home/u/.cache/x', ['darwin'])).toEqual([]);
    expect(of('/tmp', ['windows'])).toEqual([]);
    expect(of('C:\\tmp\\x')).toEqual([]);
  });
});

it('what is typed comes first, and every folder is named once', () => {
  const all = exclusions(['.cache', 'x'], [caches], ['linux']);
  expect(leftOut(['/home/u/.cache/x', '/srv', '/srv/x'], all).map(leftOutWords)).toEqual([
    'Nothing of /home/u/.cache/x is backed up: it is left out by .cache.',
    'Nothing of /srv/x is backed up: it is left out by x.',
  ]);
});
