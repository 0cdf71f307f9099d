import 'uplot/dist/uPlot.min.css';
import './style/base.css';
import './style/parts.css';
import './style/pages.css';
import { render } from 'preact';
import { App } from './app.tsx';

const place = document.getElementById('app');
if (place === null) throw new Error('the page has no place for the dashboard');
place.replaceChildren();
render(<App />, place);
