// Command spares calls none that the test's database calls vulnerable.
package main

import "strconv"

func main() { println(strconv.Quote("1")) }
