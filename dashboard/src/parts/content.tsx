import { useMemo, useState } from 'preact/hooks';
import type { ShownBytes } from '../api/types.ts';
import { bytesOf, hexDump, shownContent } from '../content.ts';
import { bytes, count } from '../format.ts';
import { Icon } from './icons.tsx';
import { notify } from './notices.tsx';

const SHOWN_CHARACTERS_MAX = 20_000;
const SHOWN_BYTES_MAX = 4096;

interface Props {
  /** What it is, for those who do not see where it stands: `payload`. */
  label: string;
  /** The name of the file that it is kept in. */
  file: string;
  content: ShownBytes;
}

/**
 * JSON on lines of its own, other text as it is, bytes as a dump; much of it only in part, until that is asked for. Of what is
 * encrypted there is nothing to see but by which key.
 */
export function Content({ label, file, content }: Props) {
  const { keyId } = content;
  if (keyId === undefined) return <Readable label={label} file={file} content={content} />;
  return (
    <div class="content">
      <div class="content-head">
        <span class="muted">Encrypted</span>
        <DownloadButton label={label} file={file} content={content} />
      </div>
      <p class="muted panel-text">
        Only who has the key <span class="mono">{keyId}</span> can read it: <code>millrace task get --key-ring</code>.
      </p>
    </div>
  );
}

function DownloadButton({ label, file, content }: Props) {
  return (
    <button
      type="button"
      class="button-plain"
      aria-label={`Download the ${label}`}
      onClick={() => download(file, content)}
    >
      <Icon name="download" /> Download
    </button>
  );
}

function Readable({ label, file, content }: Props) {
  const { encoding, data } = content;
  const [isWhole, setWhole] = useState(false);
  const shown = useMemo(() => shownContent({ encoding, data }), [encoding, data]);
  const text = useMemo(() => {
    if (shown.kind !== 'bytes') return isWhole ? shown.text : shown.text.slice(0, SHOWN_CHARACTERS_MAX);
    return hexDump(isWhole ? shown.bytes : shown.bytes.subarray(0, SHOWN_BYTES_MAX));
  }, [shown, isWhole]);
  const [whole, part] =
    shown.kind === 'bytes' ? [shown.bytes.length, SHOWN_BYTES_MAX] : [shown.text.length, SHOWN_CHARACTERS_MAX];
  const unit = shown.kind === 'bytes' ? 'bytes' : 'characters';
  return (
    <div class="content">
      <div class="content-head">
        <span class="muted">{KINDS[shown.kind]}</span>
        {isSecureContext && shown.kind !== 'bytes' && (
          <button type="button" class="button-plain" aria-label={`Copy the ${label}`} onClick={() => void copy(data)}>
            <Icon name="copy" /> Copy
          </button>
        )}
        <DownloadButton label={label} file={file} content={content} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
      <pre class="code" tabIndex={0}>
        {text}
      </pre>
      {whole > part && !isWhole && (
        <p class="content-more">
          The first {count(part)} of {count(whole)} {unit}.{' '}
          <button type="button" class="button" onClick={() => setWhole(true)}>
            Show all
          </button>
        </p>
      )}
    </div>
  );
}

const KINDS = { json: 'JSON', text: 'Text', bytes: 'Bytes' } as const;

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notify('done', 'Copied.');
  } catch {
    notify('failed', 'The browser does not let this page copy.');
  }
}

function download(file: string, { encoding, data }: Props['content']): void {
  const content = encoding === 'utf8' ? data : bytesOf(data).slice();
  const blob = new Blob([content], { type: 'application/octet-stream' });
  const address = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = address;
  link.download = file;
  link.click();
  URL.revokeObjectURL(address);
  notify('done', `${file}, ${bytes(blob.size)}, downloaded.`);
}
