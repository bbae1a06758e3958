//! The simulation's own main: runs seeds, and answers in place of the system whoever asks it for time
//! or chance. Without that, one library that asks would make two runs of a seed differ.
#![allow(
    unsafe_code,
    reason = "functions of the C library are put in place of its own, in this test alone"
)]

use std::{
    ffi::{c_int, c_long, c_uint, c_void},
    process::ExitCode,
    slice,
    time::Duration,
};

use sim::{ambient, campaign};

fn main() -> ExitCode {
    campaign::main()
}

/// As Linux has it on 64-bit machines.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

const CLOCK_REALTIME: c_int = 0;
const CLOCK_REALTIME_COARSE: c_int = 5;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(crate) const CLOCK_GETTIME: i64 = 228;
    pub(crate) const GETRANDOM: i64 = 318;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub(crate) const CLOCK_GETTIME: i64 = 113;
    pub(crate) const GETRANDOM: i64 = 278;
}

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

#[cfg(target_arch = "x86_64")]
unsafe fn kernel(number: i64, a: [i64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: the kernel is asked as its calling convention says; what the arguments mean is the
    // caller's business.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
unsafe fn kernel(number: i64, a: [i64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: as on the other machine.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] => answer,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
        );
    }
    answer
}

/// What the C library makes of an answer.
fn answer(answer: i64) -> c_long {
    if (-4095..0).contains(&answer) {
        // SAFETY: the C library's place for this thread's error.
        unsafe { *__errno_location() = i32::try_from(-answer).unwrap_or(0) };
        return -1;
    }
    answer
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == number::GETRANDOM {
        // SAFETY: the caller gives room for so many bytes.
        let bytes = unsafe { slice::from_raw_parts_mut(a as *mut u8, b as usize) };
        if ambient::fill(bytes) {
            return b;
        }
    }
    // SAFETY: handed on as it came.
    answer(unsafe { kernel(number, [a, b, c, d, e, f]) })
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(to: *mut c_void, length: usize, flags: c_uint) -> isize {
    // SAFETY: the caller gives room for so many bytes.
    let bytes = unsafe { slice::from_raw_parts_mut(to.cast::<u8>(), length) };
    if ambient::fill(bytes) {
        return bytes.len().cast_signed();
    }
    let arguments = [
        to as i64,
        length.cast_signed() as i64,
        i64::from(flags),
        0,
        0,
        0,
    ];
    // SAFETY: handed on as it came.
    answer(unsafe { kernel(number::GETRANDOM, arguments) }) as isize
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(to: *mut c_void, length: usize) -> c_int {
    // SAFETY: handed on as it came.
    match unsafe { getrandom(to, length, 0) } {
        filled if filled.cast_unsigned() == length => 0,
        _ => -1,
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, to: *mut c_void) -> c_int {
    let since_epoch = matches!(clock, CLOCK_REALTIME | CLOCK_REALTIME_COARSE);
    if let Some(now) = ambient::system_time(since_epoch) {
        // SAFETY: the caller gives room for a time.
        unsafe { to.cast::<Timespec>().write(timespec(now)) };
        return 0;
    }
    let arguments = [i64::from(clock), to as i64, 0, 0, 0, 0];
    // SAFETY: handed on as it came.
    answer(unsafe { kernel(number::CLOCK_GETTIME, arguments) }) as c_int
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        seconds: time.as_secs().cast_signed(),
        nanoseconds: i64::from(time.subsec_nanos()),
    }
}
