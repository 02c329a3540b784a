#!/bin/busybox sh
# /init of the guest, which holds only busybox and /payload. Results go to the serial line that `vmout=` names.
# The kernel's messages and the tests' stderr go to the console.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=dumb
mount -t sysfs sys /sys
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cg /sys/fs/cgroup
mkdir -p /dev/pts && mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=1777 tmp /tmp
ln -sf /proc/self/fd /dev/fd
mkdir /etc && echo root:x:0:0:root:/:/bin/sh >/etc/passwd
hostname guest
ifconfig lo up
for word in $(cat /proc/cmdline); do
    case $word in vmout=*) out=/dev/${word#*=} ;; esac
done
stty -F $out raw
cd /payload

echo "@@release $(uname -r)" >$out
echo "@@doctor" >$out
./tracer doctor --json >$out 2>/dev/console
echo "@@tests" >$out
touch /tmp/stderr /tmp/outcomes
arguments=$(cat arguments)
for series in $(cat between); do
    case $(uname -r) in $series*) arguments="$arguments $(cat arguments-between)" ;; esac
done
tail -n +1 -f /tmp/stderr >/dev/console 2>/dev/null &
. ./environment
# A separate session, as on a terminal, so that a process that a test left running does not hold the line.
setsid ./live $arguments </dev/null 2>/tmp/stderr >/tmp/outcomes &
live=$!
tail -n +1 -f /tmp/outcomes >$out &
shown=$!
wait $live
status=$?
sleep 1.5 # until the last lines are shown
kill $shown
# A test that failed runs once more, alone, unless more than five failed: then the cause is not chance.
failed=$(sed -n 's/^test \([^ ]*\) *\.\.\. FAILED$/\1/p' /tmp/outcomes)
if [ $(echo $failed | wc -w) -le 5 ]; then
    for test in $failed; do
        setsid ./live --exact $test </dev/null >/tmp/again 2>>/tmp/stderr
        echo "@@again $test $?" >$out
        cat /tmp/again >$out
    done
fi
echo "@@reasons" >$out
grep ': skipped, ' /tmp/stderr >$out
echo "@@status $status" >$out
sleep 0.3 # until the last bytes are sent
sync
reboot -f # with -no-reboot this ends QEMU, without ACPI too
