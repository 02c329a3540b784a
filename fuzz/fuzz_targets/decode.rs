//! Any bytes decode to a record or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::record::decode::decode;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = decode(bytes) {
        assert!(record.header().len as usize <= bytes.len());
    }
});
