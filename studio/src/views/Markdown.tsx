import { type Block, blocksOf } from "../state/markdown";

/** Text with `code` in it. */
function Inline({ text }: { text: string }) {
  return <>{text.split(/`([^`]+)`/).map((part, at) => (at % 2 === 1 ? <code key={at}>{part}</code> : part))}</>;
}

function Shown({ block }: { block: Block }) {
  if (block.kind === "heading") {
    return block.level < 3 ? <h2><Inline text={block.text} /></h2> : <h3><Inline text={block.text} /></h3>;
  }
  if (block.kind === "paragraph") return <p><Inline text={block.text} /></p>;
  if (block.kind === "code") return <pre tabIndex={0}>{block.text}</pre>;
  if (block.kind === "list") {
    return (
      <ul>
        {block.items.map((item, at) => (
          <li key={at}>
            <Inline text={item} />
          </li>
        ))}
      </ul>
    );
  }
  const [head = [], ...rows] = block.rows;
  return (
    <div class="scrolls" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {head.map((cell, at) => (
              <th key={at} scope="col">
                <Inline text={cell} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, at) => (
            <tr key={at}>
              {row.map((cell, column) => (
                <td key={column}>
                  <Inline text={cell} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A card, as text nodes alone. */
export function Markdown({ text }: { text: string }) {
  return (
    <div class="markdown">
      {blocksOf(text).map((block, at) => (
        <Shown key={at} block={block} />
      ))}
    </div>
  );
}
