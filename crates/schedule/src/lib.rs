//! Time for the whole product. Nothing else reads a clock: whoever needs the time is handed it, so
//! that every rule about time can be tested without waiting.

mod clock;

pub use clock::{Clock, ManualClock, SystemClock};
