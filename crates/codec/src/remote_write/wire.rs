//! The fields of a Protocol Buffers message as slices of its bytes.
//!
//! prost's messages own their texts, three allocations for every label; here a series is known by its bytes, and most texts
//! are never read. <https://protobuf.dev/programming-guides/encoding/>

/// Why a message cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends within a field.
    Cut,
    /// What is in it is no field of this protocol.
    Odd(&'static str),
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Fault> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Fault::Odd("a number where a text or a message was expected")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::Odd("a text that is no UTF-8"))
    }

    pub(super) fn double(self) -> Result<f64, Fault> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Fault::Odd("something else where a double was expected")),
        }
    }

    pub(super) fn varint(self) -> Result<u64, Fault> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Fault::Odd("something else where a whole number was expected")),
        }
    }

    /// An `int64`, which is written as its two's complement.
    pub(super) fn int64(self) -> Result<i64, Fault> {
        self.varint().map(u64::cast_signed)
    }

    /// An `int32` or `sint32` after its own decoding, held to 32 bits.
    pub(super) fn sint32(self) -> Result<i32, Fault> {
        i32::try_from(zigzag(self.varint()?)).map_err(|_| Fault::Odd("a number beyond 32 bits"))
    }
}

/// The signed number that a `sint64` stands for.
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Goes through the fields of a message.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next field's number and what it holds; nothing at the end.
    pub(super) fn step(&mut self) -> Result<Option<(u64, Value<'a>)>, Fault> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(Fault::Odd("a field with an impossible number"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Fault::Cut)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Fault::Cut)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            _ => return Err(Fault::Odd("a field of no kind that there is")),
        };
        Ok(Some((number, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Fault::Cut)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (at, byte) in self.bytes.iter().enumerate().take(10) {
            // the tenth has room for one bit
            if at == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.bytes = self.bytes.get(at + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        match self.bytes.len() {
            0..10 => Err(Fault::Cut),
            _ => Err(Fault::Odd("a number longer than there are")),
        }
    }
}

/// Whole numbers of a repeated field, packed into one or each by itself.
pub(super) fn numbers(value: Value<'_>, mut take: impl FnMut(u64)) -> Result<(), Fault> {
    match value {
        Value::Varint(one) => take(one),
        Value::Bytes(bytes) => {
            let mut packed = Fields::of(bytes);
            while !packed.bytes.is_empty() {
                take(packed.varint()?);
            }
        }
        _ => return Err(Fault::Odd("something else where whole numbers were expected")),
    }
    Ok(())
}

/// Doubles of a repeated field, the same.
pub(super) fn doubles(value: Value<'_>, mut take: impl FnMut(f64)) -> Result<(), Fault> {
    match value {
        Value::Fixed64(bits) => take(f64::from_bits(bits)),
        Value::Bytes(bytes) => {
            let (eights, rest) = bytes.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(Fault::Cut);
            }
            eights.iter().for_each(|bytes| take(f64::from_le_bytes(*bytes)));
        }
        _ => return Err(Fault::Odd("something else where doubles were expected")),
    }
    Ok(())
}
