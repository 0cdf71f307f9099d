import { Component, type ComponentChildren } from 'preact';
import { Icon } from './icons.tsx';

interface Props {
  /** With another one it tries again. */
  of: string;
  children: ComponentChildren;
}

interface State {
  failedOf: string | undefined;
  message: string;
}

/** A defect in one page leaves the menu, and the other pages. */
export class Boundary extends Component<Props, State> {
  override state: State = { failedOf: undefined, message: '' };

  override componentDidCatch(error: unknown): void {
    this.setState({ failedOf: this.props.of, message: error instanceof Error ? error.message : String(error) });
  }

  override render() {
    const { failedOf, message } = this.state;
    if (failedOf !== this.props.of) return this.props.children;
    return (
      <div class="notice-box notice-box-failed" role="alert">
        <Icon name="warning" />
        <div>
          <strong>This page met a defect of the dashboard.</strong>
          <p>{message}</p>
          <button type="button" class="button" onClick={() => this.setState({ failedOf: undefined })}>
            <Icon name="retry" />
            Try again
          </button>
        </div>
      </div>
    );
  }
}
