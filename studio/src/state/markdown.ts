/** A card's Markdown as blocks: headings, paragraphs, lists, tables and code, and nothing else. No HTML is made of it. */

export type Block =
  | { kind: "heading"; level: number; text: string }
  | { kind: "paragraph"; text: string }
  | { kind: "list"; items: readonly string[] }
  | { kind: "table"; rows: readonly (readonly string[])[] }
  | { kind: "code"; text: string };

const cells = (line: string): string[] => line.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  let at = 0;
  const taken = (fits: (line: string) => boolean): string[] => {
    const from = at;
    while (at < lines.length && fits(lines[at] as string)) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at] as string;
    const heading = /^(#{1,6}) +(.*)$/.exec(line);
    if (line.trim() === "") at += 1;
    else if (heading) {
      blocks.push({ kind: "heading", level: (heading[1] as string).length, text: heading[2] as string });
      at += 1;
    } else if (line.startsWith("```")) {
      at += 1;
      blocks.push({ kind: "code", text: taken((next) => !next.startsWith("```")).join("\n") });
      at += 1;
    } else if (line.startsWith("|")) {
      const rows = taken((next) => next.startsWith("|")).filter((row) => !/^\|[\s:|-]+$/.test(row));
      blocks.push({ kind: "table", rows: rows.map(cells) });
    } else if (/^[-*] /.test(line)) {
      const items: string[] = [];
      for (const next of taken((one) => /^[-*] /.test(one) || /^ {2,}\S/.test(one))) {
        if (/^[-*] /.test(next)) items.push(next.slice(2));
        else items.push(`${items.pop() ?? ""} ${next.trim()}`);
      }
      blocks.push({ kind: "list", items });
    } else {
      const first = at;
      const plain = (next: string): boolean => next.trim() !== "" && !/^(#{1,6} |```|\||[-*] )/.test(next);
      const text_ = taken(plain).join(" ");
      if (at === first) at += 1;
      blocks.push({ kind: "paragraph", text: text_ || line });
    }
  }
  return blocks;
}
