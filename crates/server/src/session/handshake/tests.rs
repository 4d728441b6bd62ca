//! What a hello leads to, for every state of both sides.

use super::*;
use proptest::prelude::*;
use protocol::{HostArch, HostOs, Incarnation, JournalId, PROTOCOL_VERSION, SeenManager};

fn hash(byte: u8) -> ChainHash {
    ChainHash::from([byte; 16])
}

fn ours() -> ManagerIdentity {
    ManagerIdentity { incarnation: Incarnation::new(1, &[1; 10]), epoch: 1 }
}

fn known() -> Known {
    Known {
        host: HostId::new(1, &[2; 10]),
        manager: ours(),
        tickets: Tickets::default(),
        hold: None,
        next_command: 5,
        generation: 3,
        acked: 3,
        journal: None,
        has_history: false,
    }
}

fn cursor(seq: u64) -> KnownJournal {
    let cursor = JournalCursor { seq, hash: hash(9), renew: None, is_current: true };
    KnownJournal { cursor, head_mark: None, base_mark: None }
}

fn state(first: u64, head: u64, acked: u64) -> JournalState {
    JournalState {
        id: JournalId::new(1, &[3; 10]),
        first,
        base_hash: hash(1),
        head,
        head_hash: hash(9),
        acked,
    }
}

fn hello(journal: JournalState) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0.1.0".to_owned(),
        restic_version: String::new(),
        hostname: "box".to_owned(),
        os: HostOs::Linux,
        arch: HostArch::Amd64,
        boot_time: None,
        capabilities: Vec::new(),
        requires: Vec::new(),
        time_zone: None,
        time_zone_data: None,
        journal: Some(journal),
        manager: None,
        ticket: None,
        open_runs: Vec::new(),
        awake_since: None,
        has_battery: None,
    }
}

fn met(hello: &Hello, known: &Known) -> Meeting {
    meet(hello, known, None, [7; 32], PROTOCOL_VERSION)
}

fn codes(meeting: &Meeting) -> Vec<Code> {
    meeting.notices.iter().map(|notice| notice.code).collect()
}

#[test]
fn a_first_hello_begins_where_the_journal_begins() {
    let meeting = met(&hello(state(1, 4, 0)), &known());
    assert_eq!(meeting.journal, JournalStep::Continue { seq: 0, hash: hash(1) });
    assert_eq!(meeting.tickets, Some(Tickets { confirmed: None, pending: Some([7; 32]) }));
    assert!(meeting.hold.is_none() && meeting.notices.is_empty());
}

#[test]
fn an_unknown_journal_that_begins_late_is_a_hole_only_where_there_was_history() {
    let late = hello(state(8, 10, 7));
    let meeting = met(&late, &known());
    assert_eq!(meeting.journal, JournalStep::Continue { seq: 7, hash: hash(1) });
    assert!(meeting.notices.is_empty());
    let meeting = met(&late, &Known { has_history: true, ..known() });
    assert_eq!(codes(&meeting), [Code::ManagerBehind]);
}

#[test]
fn a_known_journal_goes_on_after_the_cursor() {
    let known = Known { journal: Some(cursor(6)), ..known() };
    let meeting = met(&hello(state(3, 10, 6)), &known);
    assert_eq!(meeting.journal, JournalStep::Continue { seq: 6, hash: hash(9) });
    // Everything is pruned and acknowledged: the base is the cursor.
    let mut all_gone = state(7, 6, 6);
    all_gone.base_hash = hash(9);
    let meeting = met(&hello(all_gone), &known);
    assert_eq!(meeting.journal, JournalStep::Continue { seq: 6, hash: hash(9) });
}

#[test]
fn an_agent_behind_its_acknowledgements_begins_anew() {
    let known = Known { journal: Some(cursor(6)), ..known() };
    let meeting = met(&hello(state(1, 5, 5)), &known);
    let renew = JournalStep::Renew { reason: Code::AgentBehind, seq: 6, hash: hash(9) };
    assert_eq!(meeting.journal, renew);
    assert_eq!(codes(&meeting), [Code::AgentBehind]);
}

#[test]
fn a_manager_behind_takes_what_is_still_there_and_shows_the_rest_as_a_hole() {
    let known = Known { journal: Some(cursor(6)), ..known() };
    let meeting = met(&hello(state(4, 20, 15)), &known);
    assert_eq!(meeting.journal, JournalStep::Continue { seq: 6, hash: hash(9) });
    assert_eq!(codes(&meeting), [Code::ManagerBehind]);
    let meeting = met(&hello(state(16, 20, 15)), &known);
    assert_eq!(meeting.journal, JournalStep::Continue { seq: 15, hash: hash(1) });
    assert_eq!(codes(&meeting), [Code::ManagerBehind, Code::ManagerBehind]);
}

#[test]
fn histories_that_differ_at_the_head_the_base_or_a_kept_record_are_a_fork() {
    let mut at_head = (hello(state(1, 6, 6)), cursor(6));
    at_head.0.journal.as_mut().unwrap().head_hash = hash(8);
    let at_base = (hello(state(7, 9, 6)), cursor(6));
    let mut in_marks = (hello(state(1, 9, 6)), cursor(12));
    in_marks.1.head_mark = Some(hash(8));
    let mut before_first = (hello(state(5, 9, 6)), cursor(7));
    before_first.1.base_mark = Some(hash(8));
    for (hello, journal) in [at_head, at_base, in_marks, before_first] {
        let known = Known { journal: Some(journal), ..known() };
        let meeting = met(&hello, &known);
        assert_eq!(meeting.journal, JournalStep::Forked);
        assert_eq!(meeting.hold.map(|hold| hold.code), Some(Code::JournalForked));
        assert!(meeting.tickets.is_none());
    }
}

#[test]
fn numbers_that_the_manager_never_gave_mean_that_it_is_behind() {
    let seen = |incarnation, command, generation| {
        let mut hello = hello(state(1, 1, 0));
        hello.manager = Some(SeenManager { incarnation, command, generation });
        met(&hello, &known()).hold.map(|hold| hold.code)
    };
    let incarnation = ours().incarnation;
    assert_eq!(seen(incarnation, 4, 3), None);
    assert_eq!(seen(incarnation, 5, 3), Some(Code::ManagerBehind));
    assert_eq!(seen(incarnation, 4, 4), Some(Code::ManagerBehind));
    // Numbers of another life say nothing about this one.
    assert_eq!(seen(Incarnation::new(2, &[2; 10]), 500, 500), None);
}

#[test]
fn while_held_nothing_is_handed_out_and_what_the_agent_saw_is_kept() {
    let hold = Hold { code: Code::ManagerBehind, message: String::new() };
    let known = Known { hold: Some(hold.clone()), ..known() };
    let mut hello = hello(state(1, 1, 0));
    let seen = SeenManager { incarnation: ours().incarnation, command: 9, generation: 9 };
    hello.manager = Some(seen);
    let meeting = met(&hello, &known);
    assert_eq!(meeting.hold, Some(hold));
    assert_eq!((meeting.journal, meeting.tickets), (JournalStep::None, None));
    assert_eq!(meeting.ahead, Some(Seen { manager: Some(seen), ticket: None }));
    assert!(meeting.notices.is_empty(), "it was told when the hold began");
}

/// How far one exchange of a ticket gets before the power goes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    BeforeWelcome,
    BeforeKept,
    BeforeConfirm,
    Never,
}

/// Both sides' memory of the tickets.
#[derive(Clone, Debug, Default)]
struct Pair {
    tickets: Tickets,
    kept: Option<Fingerprint>,
}

impl Pair {
    /// One connection; says whether it was held.
    fn connect(&mut self, number: u8, cut: Cut) -> bool {
        let known = Known { tickets: self.tickets, ..known() };
        let hello = hello(state(1, 0, 0));
        let meeting = meet(&hello, &known, self.kept, [number; 32], PROTOCOL_VERSION);
        let Some(tickets) = meeting.tickets else { return true };
        self.tickets = tickets;
        if matches!(cut, Cut::BeforeWelcome | Cut::BeforeKept) {
            return false;
        }
        self.kept = Some([number; 32]);
        if !matches!(cut, Cut::BeforeConfirm) {
            self.tickets = Tickets { confirmed: self.tickets.pending, pending: None };
        }
        false
    }
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![
        Just(Cut::BeforeWelcome),
        Just(Cut::BeforeKept),
        Just(Cut::BeforeConfirm),
        Just(Cut::Never)
    ]
}

proptest! {
    #[test]
    fn an_honest_agent_is_never_taken_for_a_clone_wherever_its_connections_break(
        cuts in proptest::collection::vec(cut(), 1..40),
    ) {
        let mut pair = Pair::default();
        for (number, cut) in (1..).zip(cuts) {
            prop_assert!(!pair.connect(number, cut));
        }
    }

    #[test]
    fn a_copy_is_found_when_it_comes_after_its_original_moved_on(
        before in proptest::collection::vec(cut(), 0..10),
        after in proptest::collection::vec(cut(), 0..10),
    ) {
        let mut pair = Pair::default();
        for (number, cut) in (1..).zip(&before) {
            pair.connect(number, *cut);
        }
        pair.connect(100, Cut::Never);
        let copied = pair.kept;
        // The original has a newer ticket for certain, and keeps connecting.
        pair.connect(101, Cut::Never);
        for (number, cut) in (102..).zip(&after) {
            pair.connect(number, *cut);
        }
        let mut copy = Pair { tickets: pair.tickets, kept: copied };
        prop_assert!(copy.connect(200, Cut::Never));
    }

    #[test]
    fn every_journal_that_can_be_told_of_leads_to_a_cursor_that_exists(
        first in 1u64..30, length in 0u64..30, acked in 0u64..60, seq in 0u64..60,
    ) {
        let state = state(first, first + length - 1, acked);
        let known = Known { journal: Some(cursor(seq)), ..known() };
        let meeting = met(&hello(state.clone()), &known);
        match meeting.journal {
            JournalStep::Continue { seq: from, .. } => {
                prop_assert!(from + 1 >= state.first && from <= state.head.max(seq));
                prop_assert!(from == seq || !meeting.notices.is_empty());
            }
            JournalStep::Renew { .. } => prop_assert!(state.head < seq),
            JournalStep::Forked => prop_assert!(meeting.hold.is_some()),
            JournalStep::None => prop_assert!(false),
        }
    }
}

#[test]
fn a_journal_is_written_down_again_unless_it_is_the_current_one_and_stands_there() {
    let mut known = Known { journal: Some(cursor(7)), ..known() };
    assert!(known.is_current_at(7, hash(9)));
    assert!(!known.is_current_at(8, hash(9)) && !known.is_current_at(7, hash(8)));
    known.journal = known.journal.map(|mut journal| {
        journal.cursor.is_current = false;
        journal
    });
    assert!(!known.is_current_at(7, hash(9)));
    known.journal = None;
    assert!(!known.is_current_at(7, hash(9)));
}
