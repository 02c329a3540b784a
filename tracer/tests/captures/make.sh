#!/bin/sh
# `examples/capture FILE sh make.sh` records this into make.ring. Builds and tests a small C program three times.
set -e
cd "$(mktemp -d)"
echo 'int a(void) { return 1; }' > a.c
echo 'int a(void); int main(void) { return a() - 1; }' > b.c
cat > Makefile <<'END'
hello: a.o b.o
	gcc -o hello a.o b.o
%.o: %.c
	gcc -O2 -c $<
test: hello
	./hello && echo ok | grep -q ok
	test -x hello
clean:
	rm -f *.o hello
END
for i in 1 2 3; do make -s -j2 hello && make -s test && make -s clean; done
rm -r "$PWD"
