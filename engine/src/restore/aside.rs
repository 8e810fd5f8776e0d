//! What a worker says aside: warnings that stand in no journal, and where a fault of its own was. Its outputs are nobody's, so this
//! is kept for its report. Prints nothing.

use std::cell::RefCell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So much is kept, bytes; what comes first says most.
const MOST: usize = 64 << 10;

static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

thread_local! {
    static FAULT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Where a worker's warnings go.
pub struct SaidAside;

impl Write for SaidAside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut said = held();
        if said.len() + bytes.len() <= MOST {
            said.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// From here on a panic is said aside, in whatever thread it is.
pub fn hear_of_faults() {
    std::panic::set_hook(Box::new(note));
}

fn note(panic: &PanicHookInfo<'_>) {
    let said = panic.payload_as_str().unwrap_or("it says nothing");
    let at = match panic.location() {
        Some(at) => format!("{}:{}: {said}", at.file(), at.line()),
        None => said.to_owned(),
    };
    // Before a worker has left its outputs somebody reads them.
    let outputs: [&mut dyn Write; 2] = [&mut SaidAside, &mut std::io::stderr()];
    for output in outputs {
        let _ = writeln!(output, "a fault in holdfast: {at}");
    }
    FAULT.set(Some(at));
}

/// Where the last fault of this thread was, and what it says.
pub(super) fn fault() -> Option<String> {
    FAULT.take()
}

/// What was said, a line each. It is not said again.
pub fn said() -> Vec<String> {
    let said = std::mem::take(&mut *held());
    let text = String::from_utf8_lossy(&said);
    text.lines().map(str::to_owned).collect()
}

fn held() -> MutexGuard<'static, Vec<u8>> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}
