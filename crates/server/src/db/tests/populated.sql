-- A manager's database as the first migration made it, with something in every table.
INSERT INTO manager (id, incarnation, epoch, root_public_key, root_cert, instance_cert,
    instance_key_sealed, addresses, created_at)
VALUES (1, '01JD8000000000000000000000', 3, zeroblob(32), x'30', x'30', x'30',
    '["192.0.2.7:9788"]', 1763900000000);
INSERT INTO hosts (id, name, hostname, os, arch, agent_version, restic_version, protocol_version,
    key_fingerprint, state, enrolled_at, next_command, generation)
VALUES ('00000000-0000-7000-8000-0000000000a1', 'web-1', 'web-1', 'linux', 'amd64', '0.1.0',
        '0.18.0', 2, x'a1' || zeroblob(31), 'enrolled', 1763900000000, 5, 2),
    ('00000000-0000-7000-8000-0000000000a2', 'photos', 'photos', 'darwin', 'arm64', '0.1.0',
        '0.18.0', 2, x'a2' || zeroblob(31), 'revoked', 1763900000000, 1, 0);
INSERT INTO repositories (id, name, url, password_sealed, created_at, updated_at, initialised_at)
VALUES ('00000000-0000-7000-8000-0000000000b1', 'nas', 'rest:https://nas.example:8000/web-1/',
    x'01', 1763900000000, 1763900000000, 1763900100000);
INSERT INTO plans (id, name, repository_id, paths, excludes, tags, retention, created_at, updated_at)
VALUES ('00000000-0000-7000-8000-0000000000c1', 'etc', '00000000-0000-7000-8000-0000000000b1',
    '["/etc"]', '[]', '[]', '{"keep_daily":7}', 1763900000000, 1763900000000);
INSERT INTO plan_hosts (plan_id, host_id)
VALUES ('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000a1'),
    ('00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000a2');
INSERT INTO enrolments (id, name, token_hash, created_at, expires_at, used_at, host_id, plan_id)
VALUES ('00000000-0000-7000-8000-0000000000d1', 'web-1', zeroblob(32), 1763900000000, 1763903600000,
    1763900050000, '00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-0000000000c1');
INSERT INTO runs (id, host_id, plan_id, repository_id, kind, spec, status, dispatch, requested_by,
    created_at, finished_at)
VALUES ('00000000-0000-7000-8000-0000000000e1', '00000000-0000-7000-8000-0000000000a1',
        '00000000-0000-7000-8000-0000000000c1', '00000000-0000-7000-8000-0000000000b1', 'backup',
        '{"kind":"backup","schedule_id":"00000000-0000-7000-8000-0000000000c1"}', 'succeeded',
        'going', 'admin', 1763900200000, 1763900300000),
    ('00000000-0000-7000-8000-0000000000e2', '00000000-0000-7000-8000-0000000000a1', NULL, NULL,
        'unknown', '{"kind":"unknown"}', 'running', 'agent', 'agent', 1763900400000, NULL);
INSERT INTO log_lines (run_id, seq, ts, stream, text)
VALUES ('00000000-0000-7000-8000-0000000000e1', 1, 1763900200000, 'stdout', 'open repository'),
    ('00000000-0000-7000-8000-0000000000e1', 2, 1763900201000, 'stdout', 'lock repository');
INSERT INTO journals (host_id, journal_id, seq, hash, opened_at, is_current)
VALUES ('00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-0000000000f1', 4,
    zeroblob(32), 1763900100000, 1);
INSERT INTO journal_marks (host_id, journal_id, seq, hash)
VALUES ('00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-0000000000f1', 3, zeroblob(32)),
    ('00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-0000000000f1', 4, zeroblob(32));
INSERT INTO notices (id, host_id, code, message, opened_at, last_at)
VALUES ('00000000-0000-7000-8000-000000000091', '00000000-0000-7000-8000-0000000000a1',
    'agent_behind', 'Look at it.', 1763900100000, 1763900100000);
INSERT INTO snapshots (repository_id, id, time, hostname, paths, tags)
VALUES ('00000000-0000-7000-8000-0000000000b1', '5e', 1763900250000, 'web-1', '["/etc"]', '[]'),
    ('00000000-0000-7000-8000-0000000000b1', '5f', 1763900260000, 'web-1', '["/etc"]', '[]');
INSERT INTO repository_facts (repository_id, size_bytes, locks)
VALUES ('00000000-0000-7000-8000-0000000000b1', 4096, '[]');
INSERT INTO sessions (token_hash, created_at, last_used_at, expires_at)
VALUES (zeroblob(32), 1763900000000, 1763900000000, 1763990000000);
INSERT INTO audit (at, principal, action, subject)
VALUES (1763900000000, 'admin', 'plan.create', 'plan:00000000-0000-7000-8000-0000000000c1');
