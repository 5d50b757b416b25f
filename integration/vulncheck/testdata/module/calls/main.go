// Command calls calls a function that the test's database calls vulnerable.
package main

import "strconv"

func main() { println(strconv.Itoa(1)) }
