// How a gateway's Node is to collect memory. The script `gateway` of package.json says the same; whoever starts Node otherwise passes these.

export const nodeFlags: readonly string[] = [
  // Buffers of uploads live until the young generation is collected: a small one is used again while the processor's cache still holds it.
  '--max-semi-space-size=2',
  // Left to itself V8 lets the heap grow the less the more often it was collected. Buffers count as growth, so that a gateway under load may end up
  // collecting all of its heap thirty times a second, for good: uploads then cost more than twice as much.
  '--heap-growing-percent=300',
]
