//! Any sequence of records leaves a consistent table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::record::decode::decode;
use tracer::table::{Table, TableOptions};

fuzz_target!(|bytes: &[u8]| {
    let mut table = Table::new(TableOptions { max_dead: 128, ancestors: true, ..TableOptions::default() });
    let mut events = Vec::new();
    let mut rest = bytes;
    // Records one after the other, each with its own length.
    while let Ok(record) = decode(rest) {
        rest = rest.get(record.header().len as usize..).unwrap_or_default();
        table.apply(record, &mut events);
        events.clear();
    }
    assert_eq!(table.living().count(), table.len_living());
    assert_eq!(table.dead().count(), table.len_dead());
    for process in table.living() {
        assert_eq!(table.by_pid(process.pid()).map(|found| found.start_ns()), Some(process.start_ns()));
        assert!(process.children().all(|child| child.parent_id() == Some(process.id())));
    }
});
