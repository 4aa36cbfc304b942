//! Records to bytes and back: the one module that names bincode.
//!
//! bincode 1.3.3 is complete and frozen, and no longer maintained. It is therefore kept to small
//! metadata records that arrive framed and checksummed, behind these two functions. The tests
//! pin the bytes, and decode them with a second library, so that the format outlives the crate.
//! The encoding itself is written down in `FORMAT.md`, "Record encoding".

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

use crate::layout::MAX_RECORD_BYTES;

/// Fixed-width little-endian integers, a size limit, and no bytes left over after a record.
fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(MAX_RECORD_BYTES)
        .reject_trailing_bytes()
}

/// The bytes of a record. Errors if they would exceed [`MAX_RECORD_BYTES`].
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, String> {
    options().serialize(record).map_err(|e| e.to_string())
}

/// The record that exactly `bytes` encode. Memory used is bounded by a constant times
/// `bytes.len()`, whatever lengths they claim: serde reserves at most 1 MiB ahead of elements
/// that really are there.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    options().deserialize(bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::*;

    fn step() -> StepRecord {
        StepRecord {
            kind: StepKind::Decode,
            request: 1,
            step: 2,
            rank: 0,
            program: ProgramId(3),
            host_writes: vec![HostWrite { position: 0, buffer: BufferId(4), offset: 5, bytes: vec![6, 7] }],
            host_reads: vec![],
            points: vec![PointRecord { point: "é".into(), position: 8, snapshot: SnapshotId(9) }],
        }
    }

    const STEP_BYTES: &[u8] = &[
        2, 0, 0, 0, // kind: Decode
        1, 0, 0, 0, // request
        2, 0, 0, 0, // step
        0, 0, 0, 0, // rank
        3, 0, 0, 0, // program
        1, 0, 0, 0, 0, 0, 0, 0, // one host write
        0, 0, 0, 0, // its position
        4, 0, 0, 0, // its buffer
        5, 0, 0, 0, 0, 0, 0, 0, // its offset
        2, 0, 0, 0, 0, 0, 0, 0, 6, 7, // its bytes
        0, 0, 0, 0, 0, 0, 0, 0, // no host read
        1, 0, 0, 0, 0, 0, 0, 0, // one point
        2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0xa9, // its name, in UTF-8
        8, 0, 0, 0, // its position
        9, 0, 0, 0, // its snapshot
    ];

    /// `(u32, Option, u64, fixed array, enum with fields)`: what a step does not have.
    fn buffer() -> BufferRecord {
        BufferRecord {
            name: "w".into(),
            generation: 0,
            dtype: DType::Bf16,
            shape: vec![2],
            role: Role::Weight,
            bytes: 4,
            chunk_bytes: 4,
            address: None,
            contents: Some(Contents { parts: vec![], dtype: DType::F16, sha256: [0xee; 32] }),
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(encode(&step()).unwrap(), STEP_BYTES);
        assert_eq!(decode::<StepRecord>(STEP_BYTES).unwrap(), step());
        let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0, b'w'];
        expected.extend([0, 0, 0, 0, 2, 0, 0, 0]); // generation, dtype
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]); // shape
        expected.extend([0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]); // role, bytes, chunk_bytes
        expected.extend([0, 1]); // no address, contents
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]); // no parts, dtype
        expected.extend([0xee; 32]);
        assert_eq!(encode(&buffer()).unwrap(), expected);
        let scalar = Item::Launch(LaunchRecord {
            op: String::new(),
            version: 1,
            phase: Phase::Setup,
            label: String::new(),
            stream: 0,
            views: vec![],
            scalars: vec![ScalarRecord { name: String::new(), value: ScalarValue::I32(-1) }],
        });
        let bytes = encode(&scalar).unwrap();
        assert_eq!(bytes[bytes.len() - 8..], [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "variant, then value");
        let mark = Item::Mark { text: "é".into() };
        let expected = [12, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0xa9];
        assert_eq!(encode(&mark).unwrap(), expected);
        assert_eq!(decode::<Item>(&expected).unwrap(), mark);
        let mut beyond = expected;
        beyond[0] = 13;
        assert!(decode::<Item>(&beyond).is_err(), "no such item");
    }

    #[test]
    fn what_is_not_exactly_one_record_is_refused() {
        for cut in 0..STEP_BYTES.len() {
            assert!(decode::<StepRecord>(&STEP_BYTES[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = STEP_BYTES.to_vec();
        longer.push(0);
        assert!(decode::<StepRecord>(&longer).is_err(), "a byte left over");
        let mut variant = STEP_BYTES.to_vec();
        variant[0] = 4;
        assert!(decode::<StepRecord>(&variant).is_err(), "no such step kind");
        let mut count = STEP_BYTES.to_vec();
        count[27] = 0x10;
        assert!(decode::<StepRecord>(&count).is_err(), "2^60 host writes");
        let mut text = STEP_BYTES.to_vec();
        *text.iter_mut().find(|byte| **byte == 0xc3).unwrap() = 0xff;
        assert!(decode::<StepRecord>(&text).is_err(), "not UTF-8");
    }

    /// The same bytes through another library: the way out of an unmaintained one stays open.
    mod wincode_decodes_the_same_bytes {
        use super::*;
        use wincode::{SchemaRead, SchemaWrite};

        #[derive(SchemaRead, SchemaWrite, PartialEq, Debug)]
        enum Kind {
            Setup,
            Prefill,
            Decode,
            Codec,
        }

        #[derive(SchemaRead, SchemaWrite)]
        struct Write {
            position: u32,
            buffer: u32,
            offset: u64,
            bytes: Vec<u8>,
        }

        #[derive(SchemaRead, SchemaWrite)]
        struct Read {
            position: u32,
            buffer: u32,
            offset: u64,
            bytes: Vec<u8>,
            decision: String,
        }

        #[derive(SchemaRead, SchemaWrite)]
        struct Point {
            point: String,
            position: u32,
            snapshot: u32,
        }

        #[derive(SchemaRead, SchemaWrite)]
        struct Step {
            kind: Kind,
            request: u32,
            step: u32,
            rank: u32,
            program: u32,
            host_writes: Vec<Write>,
            host_reads: Vec<Read>,
            points: Vec<Point>,
        }

        #[derive(SchemaRead, SchemaWrite)]
        struct Contents {
            parts: Vec<(String, String)>,
            dtype: u32,
            sha256: [u8; 32],
        }

        #[derive(SchemaRead, SchemaWrite)]
        struct Buffer {
            name: String,
            generation: u32,
            dtype: u32,
            shape: Vec<u64>,
            role: u32,
            bytes: u64,
            chunk_bytes: u32,
            address: Option<u64>,
            contents: Option<Contents>,
        }

        #[test]
        fn of_a_step() {
            let step: Step = wincode::deserialize(STEP_BYTES).unwrap();
            assert_eq!((step.kind, step.request, step.step, step.program), (Kind::Decode, 1, 2, 3));
            assert_eq!((step.host_writes[0].offset, &step.host_writes[0].bytes[..]), (5, &[6, 7][..]));
            assert!(step.host_reads.is_empty());
            assert_eq!((step.points[0].point.as_str(), step.points[0].snapshot), ("é", 9));
        }

        #[test]
        fn of_a_buffer_and_back() {
            let bytes = encode(&buffer()).unwrap();
            let buffer: Buffer = wincode::deserialize(&bytes).unwrap();
            assert_eq!((buffer.dtype, &buffer.shape[..], buffer.address), (2, &[2][..], None));
            assert_eq!(buffer.contents.as_ref().map(|contents| contents.sha256), Some([0xee; 32]));
            assert_eq!(wincode::serialize(&buffer).unwrap(), bytes);
        }
    }
}
