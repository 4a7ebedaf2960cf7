#!/usr/bin/env python3
"""The orders that haqa/dataset/split_test.cpp expects, by another implementation: MT19937-64 after Matsumoto and
Nishimura's reference mt19937-64.c (2004), SplitMix64 after Vigna's splitmix64.c, Fisher and Yates's shuffle."""

MASK = (1 << 64) - 1


class Twister:
    def __init__(self, seed):
        self.state, self.index = [seed & MASK], 312
        for i in range(1, 312):
            last = self.state[-1]
            self.state.append((6364136223846793005 * (last ^ (last >> 62)) + i) & MASK)

    def __call__(self):
        if self.index == 312:
            for i in range(312):
                x = (self.state[i] & 0xFFFFFFFF80000000) | (self.state[(i + 1) % 312] & 0x7FFFFFFF)
                self.state[i] = self.state[(i + 156) % 312] ^ (x >> 1) ^ (0xB5026F5AA96619E9 if x & 1 else 0)
            self.index = 0
        x = self.state[self.index]
        self.index += 1
        x ^= (x >> 29) & 0x5555555555555555
        x ^= (x << 17) & 0x71D67FFFEDA60000
        x ^= (x << 37) & 0xFFF7EEE000000000
        return x ^ (x >> 43)


def splitmix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def shuffled(n, seed, stream):
    random, order = Twister(splitmix(splitmix(seed) ^ stream)), list(range(n))
    for i in range(n, 1, -1):
        whole = MASK - MASK % i
        x = random()
        while x >= whole:
            x = random()
        order[i - 1], order[x % i] = order[x % i], order[i - 1]
    return order


check = Twister(5489)  # the value that the C++ standard demands of mt19937_64
assert [check() for _ in range(10000)][-1] == 9981545732273789042
for n, seed, stream in ((10, 0, 0), (10, 1, 0), (10, 1, 1), (12, MASK, 7)):
    print(f"{{{n}, {seed}u, {stream}, {{{', '.join(map(str, shuffled(n, seed, stream)))}}}}},")
print("validation of 20, 5 of them, seed 3:", sorted(shuffled(20, 3, MASK)[:5]))
