// Reads JSON strings, one in a line, and writes what JSON.parse and then
// JSON.stringify make of the text in each: one in a line, "error" for texts that
// JSON.parse refuses.
'use strict';

const chunks = [];
process.stdin.on('data', (chunk) => chunks.push(chunk));
process.stdin.on('end', () => {
  const lines = Buffer.concat(chunks).toString('utf8').split('\n');
  lines.pop(); // what follows the last line's end
  const results = lines.map((line) => {
    const text = JSON.parse(line);
    let value;
    try {
      value = JSON.parse(text);
    } catch (error) {
      if (error instanceof SyntaxError) return 'error';
      throw error;
    }
    return JSON.stringify(value);
  });
  process.stdout.write(results.join('\n') + '\n');
});
