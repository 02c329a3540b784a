use super::*;

/// `struct outer { int a; union { struct { void *b; }; }; unsigned c:1, d:1; };`, `btf_trace_hook(void *, int)` and
/// `enum e { c = 7, d = 9 };`.
fn sample() -> Vec<u8> {
    sample_with("hook", 1)
}

/// The same with another tracepoint, which has N arguments of type `int`.
pub(in crate::kernel) fn sample_with(tracepoint: &str, arguments: u32) -> Vec<u8> {
    let hook = format!("btf_trace_{tracepoint}");
    let strings = format!("\0int\0outer\0a\0b\0c\0d\0{hook}\0e\0");
    let strings = strings.as_bytes();
    let name = |text: &str| {
        strings.windows(text.len() + 1).position(|w| w == [text.as_bytes(), b"\0"].concat()).unwrap() as u32
    };
    let info = |kind: u32, count: u32| kind << 24 | count;
    let types: Vec<u32> = [
        vec![name("int"), info(KIND_INT, 0), 4, 32],       // 1
        vec![0, info(KIND_PTR, 0), 0],                     // 2
        vec![0, info(KIND_STRUCT, 1), 8, name("b"), 2, 0], // 3
        vec![0, info(KIND_UNION, 1), 8, 0, 3, 0],          // 4
        vec![
            name("outer"),
            info(KIND_STRUCT, 4) | 1 << 31,
            24,
            name("a"),
            1,
            0,
            0,
            4,
            64, //
            name("c"),
            1,
            1 << 24 | 128,
            name("d"),
            1,
            1 << 24 | 129,
        ], // 5
        [vec![0, info(KIND_FUNC_PROTO, 1 + arguments), 0, 0, 2], [0, 1].repeat(arguments as usize)].concat(), // 6
        vec![0, info(KIND_PTR, 0), 6],                     // 7
        vec![name(&hook), info(KIND_TYPEDEF, 0), 7],       // 8
        vec![name("e"), info(KIND_ENUM, 2), 4, name("c"), 7, name("d"), 9], // 9
    ]
    .concat();
    let bytes = types.len() as u32 * 4;
    let mut data = Vec::new();
    data.extend(MAGIC.to_ne_bytes());
    data.extend([1, 0]);
    for word in [24, 0, bytes, bytes, strings.len() as u32] {
        data.extend(word.to_ne_bytes());
    }
    for word in types {
        data.extend(word.to_ne_bytes());
    }
    data.extend(strings);
    data
}

fn find(path: &'static str, want: Want, size: u32) -> Option<u32> {
    Btf::parse(sample()).unwrap().offset(&Member { field: "", of: "outer", path, want, size })
}

#[test]
fn members_are_found_by_name_and_size() {
    assert_eq!(find("a", Want::Needed, 4), Some(0));
    assert_eq!(find("a", Want::Needed, 8), None);
    assert_eq!(find("b", Want::Needed, 8), Some(8));
    assert_eq!(find("d", Want::Bit, 0), Some(129));
    assert_eq!(find("x|b", Want::Useful, 8), Some(8));
    assert_eq!(find("#size", Want::Useful, 0), Some(24));
    assert_eq!(find("b.c", Want::Useful, 0), None);
}

#[test]
fn arguments_of_a_tracepoint_are_counted() {
    let btf = Btf::parse(sample()).unwrap();
    assert_eq!(btf.tracepoint_arguments("hook"), Some(1));
    assert_eq!(btf.tracepoint_arguments("other"), None);
}

#[test]
fn constants_of_an_enum_have_values() {
    let btf = Btf::parse(sample()).unwrap();
    assert_eq!((btf.enum_value("e", "c"), btf.enum_value("e", "d")), (Some(7), Some(9)));
    assert_eq!((btf.enum_value("e", "x"), btf.enum_value("f", "c")), (None, None));
}

#[test]
fn a_needed_member_that_is_absent_is_named() {
    let error = Btf::parse(sample()).unwrap().offsets(&[]).unwrap_err();
    assert!(error.to_string().contains("task_struct.pid"), "{error}");
}

#[test]
fn structures_in_a_circle_end_the_search() {
    // The only member of the anonymous union, type 4, becomes that union itself.
    let mut circle = sample();
    let info = (5 << 24 | 1_u32).to_ne_bytes();
    let union = circle.windows(4).position(|word| word == info).unwrap();
    circle[union + 12..union + 16].copy_from_slice(&4_u32.to_ne_bytes());
    let btf = Btf::parse(circle).unwrap();
    let at = |path| btf.offset(&Member { field: "", of: "outer", path, want: Want::Needed, size: 0 });
    assert_eq!((at("nothing"), at("a")), (None, Some(0)));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(4000))]
    /// The search in damaged bytes ends without panic, in bounded time and depth.
    #[test]
    fn the_search_in_damaged_bytes_ends(
        changes in proptest::collection::vec((0_usize..400, 0_u8..=24), 1..12),
        wild in proptest::collection::vec((0_usize..400, proptest::num::u8::ANY), 0..4),
    ) {
        let mut data = sample();
        for (at, value) in changes.into_iter().chain(wild) {
            let at = at % data.len();
            data[at] = value;
        }
        if let Ok(btf) = Btf::parse(data) {
            for path in ["a", "b", "nothing", "a.b", "#size"] {
                for want in [Want::Needed, Want::Bit] {
                    let _ = btf.offset(&Member { field: "", of: "outer", path, want, size: 4 });
                }
            }
            let _ = btf.tracepoint_arguments("hook");
        }
    }
}

#[test]
fn truncated_or_foreign_bytes_are_refused_without_panic() {
    let whole = sample();
    for len in 0..whole.len() {
        assert!(Btf::parse(whole[..len].to_vec()).is_err(), "{len} bytes of {}", whole.len());
    }
    assert!(Btf::parse(b"\x7fELF and so on, long enough".to_vec()).is_err());
}

#[test]
fn attach_points_keep_their_type_numbers() {
    let whole = Btf::parse(sample()).unwrap();
    let thin = Btf::parse(whole.attach_points()).unwrap();
    assert_eq!(thin.typedefs, whole.typedefs);
    assert!(thin.structs.is_empty() && thin.enums.is_empty());
    aya::Btf::parse(&whole.attach_points(), aya::Endianness::default()).unwrap();
}
