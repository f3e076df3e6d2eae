//! Numbers and lengths as bytes, little endian: for the wire and for the keeper's book.
//!
//! Nothing here can fail but by returning None; a reader never looks behind what it was given.

pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn new(tag: u8) -> Writer {
        Writer(vec![tag])
    }
    pub fn u8(mut self, value: u8) -> Writer {
        self.0.push(value);
        self
    }
    pub fn u16(mut self, value: u16) -> Writer {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub fn u32(mut self, value: u32) -> Writer {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub fn i32(mut self, value: i32) -> Writer {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub fn u64(mut self, value: u64) -> Writer {
        self.0.extend(value.to_le_bytes());
        self
    }
    /// Length, then bytes; cut at `max`.
    pub fn bytes(self, bytes: &[u8], max: usize) -> Writer {
        let cut = bytes.get(..max).unwrap_or(bytes);
        let mut writer = self.u16(u16::try_from(cut.len()).unwrap_or(0));
        writer.0.extend(cut);
        writer
    }
}

pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn flag(&mut self) -> Option<bool> {
        self.u8().map(|value| value != 0)
    }
    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        let count = self.u16()?;
        self.take(usize::from(count)).map(<[u8]>::to_vec)
    }
}
