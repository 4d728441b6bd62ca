//! The words of the wire as closed lists in the document, so that a typed client knows them all. A
//! client must still take a word that it does not know: a newer agent may have sent it.

use protocol::{Code, JobKind, JobStatus};
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

macro_rules! words {
    ($(#[$doc:meta])* $word:ident as $name:literal, $all:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $word;

        impl PartialSchema for $word {
            fn schema() -> RefOr<Schema> {
                let words = $all.iter().map(|word| word.as_str());
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
            }
        }

        impl ToSchema for $word {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    };
}

words!(
    /// A stable reason.
    CodeWord as "Code",
    Code::ALL
);
words!(
    /// A kind of run.
    KindWord as "RunKind",
    [
        JobKind::Backup,
        JobKind::Init,
        JobKind::Forget,
        JobKind::Prune,
        JobKind::Check,
        JobKind::Unlock,
        JobKind::Restore,
        JobKind::Diff,
        JobKind::Stats,
        JobKind::Copy,
        JobKind::Ls,
        JobKind::Find,
        JobKind::Dump,
        JobKind::Unknown,
    ]
);
words!(
    /// A state of a run.
    StatusWord as "RunStatus",
    [
        JobStatus::Queued,
        JobStatus::Running,
        JobStatus::Succeeded,
        JobStatus::Failed,
        JobStatus::Cancelled,
        JobStatus::Partial,
        JobStatus::Interrupted,
        JobStatus::Expired,
        JobStatus::Lost,
        JobStatus::Unknown,
    ]
);
