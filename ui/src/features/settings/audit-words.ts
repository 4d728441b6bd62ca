// What the audit log's actions are called. Pure.

const WORDS: Record<string, string> = {
  'alarm_channel.create': 'Made an alarm channel',
  'alarm_channel.delete': 'Deleted an alarm channel',
  'alarm_channel.test': 'Sent a test message',
  'alarm_channel.update': 'Changed an alarm channel',
  'announcement.approve': 'Approved a machine',
  'announcement.create': 'Asked to join',
  'announcement.refuse': 'Refused a machine',
  'enrolment.create': 'Made an install line',
  'enrolment.withdraw': 'Took an install line back',
  'host.adopt': 'Went on from an older copy',
  'host.enrol': 'Enrolled',
  'host.hold': 'Held',
  'host.mode': 'Said how often it is on',
  'host.release': 'Let go on',
  'host.remove': 'Removed',
  'host.rename': 'Renamed',
  'host.revoke': 'Revoked',
  'host.tags': 'Changed tags',
  'notice.resolve': 'Put a notice away',
  'password.change': 'Changed the password',
  'password.first': 'Set the first password',
  'plan.create': 'Made a plan',
  'plan.delete': 'Deleted a plan',
  'plan.update': 'Changed a plan',
  'repository.create': 'Entered a repository',
  'repository.delete': 'Deleted a repository',
  'repository.update': 'Changed a repository',
  'run.cancel': 'Cancelled a run',
  'run.start': 'Asked for a run',
  'session.end': 'Signed out',
  'session.open': 'Signed in',
  'system.addresses': 'Changed the addresses',
};

/** An action in words; one of a newer manager stands as it is. */
export function auditWords(action: string): string {
  return WORDS[action] ?? action;
}
